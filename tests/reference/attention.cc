#include "tests/reference/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace angel_ptm::reference {
namespace {

double Dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// Where query (row, i) of `head` and its visible keys lie.
struct Query {
  int64_t at, key_at, key_row, first, count;

  Query(const AttentionShape& z, const int32_t* segment_start, int64_t row, int64_t i, int64_t head) {
    at = ((row * z.s + i) * z.q_heads + head) * z.d;
    key_row = z.kv_heads * z.d;
    first = z.keys > 0 ? 0 : segment_start[row * z.s + i];
    key_at = (row * (z.keys > 0 ? z.keys : z.s) + first) * key_row + head / (z.q_heads / z.kv_heads) * z.d;
    count = z.keys == 0 ? i - first + 1 : z.key_counts == nullptr ? z.keys : z.key_counts[row];
  }
};

// Computes the softmax over the visible keys; returns log-sum-exp.
double Probabilities(std::vector<double>& p, const Query& query, const double* q, const double* k,
                     const AttentionShape& z) {
  p.resize(query.count);
  for (int64_t j = 0; j < query.count; ++j) {
    p[j] = z.scale * Dot(q + query.at, k + query.key_at + j * query.key_row, z.d);
  }
  const double highest = *std::max_element(p.begin(), p.end());
  double sum = 0;
  for (double& x : p) sum += x = std::exp(x - highest);
  for (double& x : p) x /= sum;
  return highest + std::log(sum);
}

}  // namespace

void Attention(double* o, double* lse, const double* q, const double* k, const double* v, const int32_t* segment_start,
               const AttentionShape& z) {
  std::vector<double> p;
  for (int64_t row = 0; row < z.b; ++row) {
    for (int64_t i = 0; i < z.s; ++i) {
      for (int64_t head = 0; head < z.q_heads; ++head) {
        const Query query(z, segment_start, row, i, head);
        const double log_sum = Probabilities(p, query, q, k, z);
        if (lse != nullptr) lse[head * z.b * z.s + row * z.s + i] = log_sum;
        std::fill_n(o + query.at, z.d, 0.0);
        for (int64_t j = 0; j < query.count; ++j) {
          for (int64_t c = 0; c < z.d; ++c) o[query.at + c] += p[j] * v[query.key_at + j * query.key_row + c];
        }
      }
    }
  }
}

void AttentionGrad(double* dq, double* dk, double* dv, const double* do_, const double* q, const double* k,
                   const double* v, const int32_t* segment_start, const AttentionShape& z) {
  std::fill_n(dq, z.b * z.s * z.q_heads * z.d, 0.0);
  std::fill_n(dk, z.key_tokens() * z.kv_heads * z.d, 0.0);
  std::fill_n(dv, z.key_tokens() * z.kv_heads * z.d, 0.0);
  std::vector<double> p, dp;
  for (int64_t row = 0; row < z.b; ++row) {
    for (int64_t i = 0; i < z.s; ++i) {
      for (int64_t head = 0; head < z.q_heads; ++head) {
        const Query query(z, segment_start, row, i, head);
        Probabilities(p, query, q, k, z);
        dp.resize(query.count);
        double mean = 0;
        for (int64_t j = 0; j < query.count; ++j) {
          dp[j] = Dot(do_ + query.at, v + query.key_at + j * query.key_row, z.d);
          mean += p[j] * dp[j];
        }
        for (int64_t j = 0; j < query.count; ++j) {
          const double dscore = p[j] * (dp[j] - mean) * z.scale;
          const int64_t key = query.key_at + j * query.key_row;
          for (int64_t c = 0; c < z.d; ++c) {
            dv[key + c] += p[j] * do_[query.at + c];
            dk[key + c] += dscore * q[query.at + c];
            dq[query.at + c] += dscore * k[key + c];
          }
        }
      }
    }
  }
}

}  // namespace angel_ptm::reference
