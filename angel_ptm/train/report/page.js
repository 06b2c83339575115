"use strict";
// Draws the plots that the page's data describes (plots.h). What was drawn is told in attributes: data-points of every
// plot's section, data-drawn of the document when all are done, data-error if a script failed.
window.addEventListener("error", (event) => {
  document.documentElement.dataset.error = event.message;
});

const COLOURS = ["#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#0b7285", "#bc4c00", "#bf3989", "#57606a", "#4d2d00"];
const colour = (number) => COLOURS[number % COLOURS.length];
const short = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(5))) : "");

// One row per x of any series: a number, null where a series has no such x, NaN where it has a gap.
function rowsOf(series) {
  const rows = new Map();
  series.forEach((one, column) => {
    for (const [x, y] of one.points) {
      if (!rows.has(x)) rows.set(x, [x, ...series.map(() => null)]);
      rows.get(x)[column + 1] = y === null ? NaN : y;
    }
  });
  return [...rows.values()].sort((a, b) => a[0] - b[0]);
}

function drawLines(plot, chart, legend) {
  const rows = rowsOf(plot.series);
  const stacked = plot.kind === "stacked";
  const options = {};
  for (const one of plot.series) options[one.name] = one.dashed ? { strokePattern: [6, 4], drawPoints: true } : {};
  new Dygraph(chart, rows, {
    labels: ["x", ...plot.series.map((one) => one.name)],
    colors: plot.series.map((one) => colour(one.run)),
    series: options,
    labelsDiv: legend,
    legend: "always",
    xlabel: plot.x,
    ylabel: plot.y,
    connectSeparatedPoints: true,
    drawPoints: rows.length <= 60,
    xRangePad: 4,
    pointSize: 2,
    strokeWidth: 1.5,
    stackedGraph: stacked,
    fillAlpha: stacked ? 0.6 : 0.15,
    includeZero: stacked,
    axes: { x: { valueFormatter: short }, y: { valueFormatter: short, axisLabelFormatter: short, axisLabelWidth: 58 } },
  });
  return rows.reduce((sum, row) => sum + row.slice(1).filter(Number.isFinite).length, 0);
}

// White is the middle, blue is less, red is more.
function heatColour(value, heat, most) {
  if (value === null) return "#e3e7eb";
  const low = value < heat.middle;
  const span = low ? heat.middle - heat.least : most - heat.middle;
  const share = span > 0 ? Math.min(1, Math.abs(value - heat.middle) / span) : 0;
  const fade = Math.round(255 - 190 * share);
  return low ? `rgb(${fade}, ${fade}, 255)` : `rgb(255, ${fade}, ${fade})`;
}

function drawHeat(plot, chart, legend) {
  const heat = plot.heat;
  const most = Math.max(heat.middle, ...heat.values.flat());
  const canvas = document.createElement("canvas");
  canvas.className = "cells";
  canvas.width = heat.columns.length * Math.max(1, Math.floor(1024 / heat.columns.length));
  canvas.height = heat.rows.length * Math.max(4, Math.min(40, Math.floor(480 / heat.rows.length)));
  chart.classList.add("heat");
  chart.append(canvas);
  const width = canvas.width / heat.columns.length;
  const height = canvas.height / heat.rows.length;
  const pen = canvas.getContext("2d");
  let points = 0;
  heat.values.forEach((row, r) => {
    row.forEach((value, c) => {
      pen.fillStyle = heatColour(value, heat, most);
      pen.fillRect(c * width, r * height, width, height);
      if (value !== null) ++points;
    });
  });
  const scale = `${plot.y} downwards, ${plot.x} to the right; white is ${heat.middle}, the deepest red ${short(most)}`;
  legend.textContent = scale;
  canvas.addEventListener("mousemove", (event) => {
    const c = Math.floor((event.offsetX / canvas.clientWidth) * heat.columns.length);
    const r = Math.floor((event.offsetY / canvas.clientHeight) * heat.rows.length);
    const value = heat.values[r] && heat.values[r][c];
    legend.textContent =
      value == null ? scale : `${plot.y} ${heat.rows[r]}, ${plot.x} ${heat.columns[c]}: ${short(value)}`;
  });
  return points;
}

document.addEventListener("DOMContentLoaded", () => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  let drawn = 0;
  for (const plot of plots) {
    const section = document.getElementById(plot.id);
    const draw = plot.kind === "heat" ? drawHeat : drawLines;
    section.dataset.points = draw(plot, section.querySelector(".chart"), section.querySelector(".legend"));
    ++drawn;
  }
  document.documentElement.dataset.drawn = drawn;
});
