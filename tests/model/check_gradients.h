// Compares the gradients of a whole graph with finite differences.
#ifndef ANGEL_PTM_TESTS_MODEL_CHECK_GRADIENTS_H_
#define ANGEL_PTM_TESTS_MODEL_CHECK_GRADIENTS_H_

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "kernels/ops/hybrid_loss.h"
#include "tests/model/graph_player.h"

namespace angel_ptm {

// Fills the input "bound" of a model that learns its variance. The coefficient of the mean's error is 0, because the
// gradient treats that error as a constant. The first step is a decoded one.
inline void FillBounds(const Graph& graph, GraphPlayer& player) {
  const TensorId bounds = graph.FindTensor("bound");
  for (int64_t row = 0; row < player.Elements(bounds) / kBoundColumns; ++row) {
    float* const bound = player.Floats(bounds) + row * kBoundColumns;
    bound[kBoundWeight] = 1, bound[kBoundLogLeast] = -2, bound[kBoundLogRange] = 1.5f, bound[kBoundError] = 0;
    bound[kBoundDecoded] = row == 0 ? 1 : 0;
  }
}

// Checks the loss along a random direction in each trained parameter. A parameter without gradient must not affect the
// loss.
inline void CheckGradients(const Graph& graph, GraphPlayer& player) {
  player.Run();
  std::mt19937 random(5);
  std::normal_distribution<double> normal;
  for (size_t p = 0; p < graph.parameters().size(); ++p) {
    if (!graph.units()[graph.parameters()[p].unit].trainable) continue;
    const TensorId tensor = graph.parameter_tensors[p], made = graph.gradient_tensors[p];
    const int64_t n = player.Elements(tensor);
    const std::vector<float> gradient = made == kNone ? std::vector<float>(n, 0.0f) : player.Values(made);
    std::vector<double> direction(n);
    double length = 0, along = 0, size = 0;
    for (double& d : direction) {
      d = normal(random);
      length += d * d;
    }
    for (int64_t i = 0; i < n; ++i) {
      direction[i] /= std::sqrt(length);
      along += direction[i] * static_cast<double>(gradient[i]);
      size += static_cast<double>(gradient[i]) * static_cast<double>(gradient[i]);
    }
    const std::vector<float> at = player.Values(tensor);
    const auto loss_at = [&](double step) {
      GraphPlayer moved(graph);
      for (size_t t = 0; t < graph.tensors.size(); ++t) {
        const TensorClass c = graph.tensors[t].tensor_class;
        const auto id = static_cast<TensorId>(t);
        if (c != TensorClass::kInput && c != TensorClass::kParameter) continue;
        std::copy_n(player.Floats(id), player.Elements(id), moved.Floats(id));
      }
      for (int64_t i = 0; i < n; ++i) moved.Floats(tensor)[i] = at[i] + static_cast<float>(step * direction[i]);
      return moved.Run();
    };
    constexpr double kStep = 1.6e-2;
    // A difference of fourth order allows a step large enough for fp32: a loss of 38 has steps of 4e-6.
    const double difference =
        (8 * (loss_at(kStep) - loss_at(-kStep)) - (loss_at(2 * kStep) - loss_at(-2 * kStep))) / (12 * kStep);
    EXPECT_NEAR(along, difference, 0.01 * std::sqrt(size) + 3e-3) << graph.parameters()[p].name;
  }
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_MODEL_CHECK_GRADIENTS_H_
