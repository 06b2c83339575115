// From noise to an image: each sampler is a list of steps, made once, and a function that takes one step. The caller
// supplies the model outputs, after guidance. All spans of a call have the same length and hold any number of images
// that are at the same step. Only the functions that make lists allocate.
#ifndef ANGEL_PTM_TRAIN_DIFFUSION_SAMPLERS_H_
#define ANGEL_PTM_TRAIN_DIFFUSION_SAMPLERS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "angel_ptm/train/diffusion/schedule.h"

namespace angel_ptm {

// guided = without + scale * (with - without) (Ho and Salimans 2022). `guided` may be either operand.
void Guide(double scale, std::span<const float> with, std::span<const float> without, std::span<float> guided);

// The times of the schedule that `count` steps visit, in falling order, with the names and numbers of diffusers' DDIM
// and DDPM. Except with kTrailing, diffusers' DPM-Solver visits the times for count + 1 steps without the last one.
// `count` is from 1 to schedule_steps.
enum class TimeSpacing { kLeading, kLinspace, kTrailing };
std::vector<int64_t> SpacedTimes(int64_t schedule_steps, int64_t count, TimeSpacing spacing, int64_t offset = 0);

// One step from time t to time `next` (-1: the clean image).
struct TimeStep {
  int64_t t = 0;
  int64_t next = -1;
};
// Makes the steps for falling times; the last step leads to -1.
std::vector<TimeStep> TimeSteps(std::span<const int64_t> times);

// DDIM (Song et al. 2021). Advances x to `step.next`. eta 0 is deterministic and takes no `noise` (empty); eta 1 adds
// as much noise as DDPM. clip > 0: the predicted image is first clamped to -clip..clip. For kEpsilon and kVelocity.
struct DdimOptions {
  Prediction prediction = Prediction::kEpsilon;
  double eta = 0;
  double clip = 0;
};
void DdimStep(const DiffusionSchedule& schedule, const DdimOptions& options, TimeStep step,
              std::span<const float> output, std::span<const float> noise, std::span<float> x);

// Ancestral sampling (Ho et al. 2020) with the variance "fixed small", that of the posterior. The step to the clean
// image does not use `noise`. With `log_variance_fraction` [n] (a model with learn_sigma; empty: none) the variance
// lies between the posterior's and beta, at fraction (v + 1) / 2 of their logarithms (Nichol and Dhariwal 2021).
struct DdpmOptions {
  Prediction prediction = Prediction::kEpsilon;
  double clip = 0;
};
void DdpmStep(const DiffusionSchedule& schedule, const DdpmOptions& options, TimeStep step,
              std::span<const float> output, std::span<const float> log_variance_fraction, std::span<const float> noise,
              std::span<float> x);

// DPM-Solver++(2M), midpoint (Lu et al. 2022). The first step is of first order, and so is the last one if it leads to
// the clean image. `previous` is the caller's memory for the image that the previous step predicted.
struct DpmSolverOptions {
  Prediction prediction = Prediction::kEpsilon;
  double clip = 0;
};
void DpmSolverStep(const DiffusionSchedule& schedule, const DpmSolverOptions& options, std::span<const TimeStep> steps,
                   int64_t index, std::span<const float> output, std::span<float> previous, std::span<float> x);

// Times of a flow: count + 1 times from 1 to 0, evenly spaced, then shifted.
std::vector<double> FlowTimes(int64_t count, double shift);
// Euler's step: x += (next - t) * output. The output is that of a kFlow model.
void FlowEulerStep(double t, double next, std::span<const float> output, std::span<float> x);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_DIFFUSION_SAMPLERS_H_
