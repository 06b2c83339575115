#include "angel_ptm/config/validate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/world_shape.h"
#include "angel_ptm/config/checks.h"

namespace angel_ptm {
namespace {

constexpr int64_t kTraceStepsMax = 1000;
constexpr int64_t kPageBytesMin = 4096;
constexpr int64_t kFilePageBytesMin = 8192;  // a bf16 page is half of that: one block of the file
constexpr int64_t kPageBytesMax = int64_t{1} << 30;
constexpr double kHostMemoryShare = 0.8;
constexpr int64_t kStalenessMax = 64;
constexpr int64_t kExchangedTokens = 16;  // one number for each of these tokens makes a cache line
constexpr double kSecondsMax = 1e9;       // 64-bit clocks in nanoseconds hold it, with room for sums

void CheckAttention(const HunyuanLmConfig& lm, bool hidden_ok, Checks* checks) {
  const bool heads_ok = checks->Set("num_attention_heads", lm.num_attention_heads(), kCountMax);
  if (checks->Between("num_key_value_heads", lm.num_key_value_heads(), 0, kCountMax) && heads_ok &&
      lm.num_key_value_heads() != 0) {
    checks->That(lm.num_attention_heads() % lm.num_key_value_heads() == 0, "num_key_value_heads",
                 "query heads cannot share key-value heads evenly",
                 absl::StrCat("a divisor of num_attention_heads = ", lm.num_attention_heads()),
                 Text(lm.num_key_value_heads()));
  }
  if (!checks->Between("head_dim", lm.head_dim(), 0, kWidthMax)) return;
  if (lm.head_dim() == 0) {
    if (!hidden_ok || !heads_ok) return;
    if (!checks->That(lm.hidden_size() % lm.num_attention_heads() == 0, "head_dim",
                      "0 means hidden_size / num_attention_heads, which is not whole",
                      "head_dim, or num_attention_heads that divides hidden_size",
                      absl::StrCat(lm.hidden_size(), " / ", lm.num_attention_heads()))) {
      return;
    }
  }
  const int64_t head_dim = HeadDim(lm);
  checks->That(head_dim % 2 == 0, "head_dim", "rotary embeddings turn pairs of features", "an even number",
               Text(head_dim));
  checks->That(lm.rope_alpha() == 0 || head_dim > 2, "head_dim", "rope_alpha has no meaning for one pair of features",
               "more than 2", Text(head_dim));
}

void CheckExperts(const HunyuanLmConfig& lm, Checks* checks) {
  if (!checks->Between("num_experts", lm.num_experts(), 0, kCountMax)) return;
  checks->That(lm.num_experts() != 1, "num_experts", "one expert routes nothing", "0 (dense) or at least 2", "1");
  if (lm.num_experts() == 0) {
    checks->That(lm.moe_topk() == 0, "moe_topk", "a dense model (num_experts = 0) routes nothing", "0",
                 Text(lm.moe_topk()));
    checks->That(lm.router_aux_loss_coefficient() == 0, "router_aux_loss_coefficient",
                 "a dense model (num_experts = 0) routes nothing", "0", Text(lm.router_aux_loss_coefficient()));
    return;
  }
  checks->That(lm.moe_topk() >= 1 && lm.moe_topk() <= lm.num_experts(), "moe_topk",
               "tokens cannot visit that many experts", absl::StrCat("1 to num_experts = ", lm.num_experts()),
               Text(lm.moe_topk()));
  checks->NotNegative("router_aux_loss_coefficient", lm.router_aux_loss_coefficient());
}

void CheckHunyuanLm(const HunyuanLmConfig& lm, Checks* all) {
  Checks checks("model.hunyuan_lm.");
  const bool hidden_ok = checks.Set("hidden_size", lm.hidden_size(), kWidthMax);
  if (hidden_ok) checks.MultipleOf("hidden_size", lm.hidden_size(), kWidthMultiple);
  if (checks.Set("intermediate_size", lm.intermediate_size(), kWidthMax)) {
    checks.MultipleOf("intermediate_size", lm.intermediate_size(), kWidthMultiple);
  }
  checks.Set("num_hidden_layers", lm.num_hidden_layers(), kCountMax);
  CheckAttention(lm, hidden_ok, &checks);
  CheckExperts(lm, &checks);
  checks.Positive("rope_theta", lm.rope_theta());
  if (checks.NotNegative("rope_alpha", lm.rope_alpha()) && lm.rope_alpha() > 0 && checks.ok() && HeadDim(lm) > 2) {
    const auto head_dim = static_cast<double>(HeadDim(lm));
    const double base = lm.rope_theta() * std::pow(lm.rope_alpha(), head_dim / (head_dim - 2));
    checks.That(base >= kFloatMin && base <= kFloatMax, "rope_alpha", "the scaled base is too small or too large",
                absl::StrCat("rope_theta * rope_alpha^(head_dim / (head_dim - 2)) from ", Text(kFloatMin), " to ",
                             Text(kFloatMax)),
                Text(base));
  }
  checks.Positive("rms_norm_eps", lm.rms_norm_eps());
  checks.Positive("initializer_range", lm.initializer_range(), kInitializerMax);
  checks.Set("max_position_embeddings", lm.max_position_embeddings(), kRowsMax);
  checks.That(lm.vocab_size() == 0 || (lm.vocab_size() >= kVocabularyMin && lm.vocab_size() <= kVocabularyMax),
              "vocab_size", "out of range",
              absl::StrCat("0 (the tokenizer's size) or ", kVocabularyMin, " to ", kVocabularyMax),
              Text(lm.vocab_size()));
  all->Append(checks);
}

void CheckModel(const TrainConfig& config, Checks* checks) {
  if (config.model().has_hunyuan_lm()) {
    CheckHunyuanLm(config.model().hunyuan_lm(), checks);
  } else if (config.model().has_dit()) {
    CheckDit(config.model().dit(), checks);
  } else if (config.model().has_hunyuan_dit()) {
    CheckHunyuanDit(config.model().hunyuan_dit(), checks);
  } else {
    checks->That(false, "model", "no model family is chosen", "one of: hunyuan_lm, dit, hunyuan_dit", "none");
  }
}

// Checks products of valid sizes, because the graph and the Plan count elements and bytes in 63 bits, and kernels count
// rows in 32. Computes in floating point, which does not overflow.
void CheckProducts(const TrainConfig& config, Checks* checks) {
  if (config.model().has_dit()) return CheckDitProducts(config, checks);
  if (config.model().has_hunyuan_dit()) return CheckHunyuanDitProducts(config, checks);
  const HunyuanLmConfig& lm = config.model().hunyuan_lm();
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  const double hidden = number(lm.hidden_size()), inner = number(lm.intermediate_size());
  const double layers = number(lm.num_hidden_layers()), experts = number(lm.num_experts());
  const double heads = number(lm.num_attention_heads()) * number(HeadDim(lm));  // q's width; k and v are no wider
  const double parameters = layers * (4 * hidden * heads + (experts + 1) * (3 * hidden * inner + hidden)) +
                            2 * number(std::max(lm.vocab_size(), kVocabularyMin)) * hidden;
  const std::string wanted = absl::StrCat("at most ", kElementsMax);
  checks->That(parameters <= number(kElementsMax), "model.hunyuan_lm", "too many parameters", wanted, Text(parameters));

  const double tokens = number(config.batch().micro_batch_sequences()) * number(config.data().sequence_length());
  const double routed = lm.num_experts() == 0
                            ? 0
                            : tokens * number(lm.moe_topk()) * number(std::max(1, config.sharding().expert_degree())) +
                                  experts * number(config.numerics().expert_block_rows());
  checks->That(routed <= number(kRowsMax), "batch.micro_batch_sequences", "too many rows of tokens for the experts",
               absl::StrCat("at most ", kRowsMax), Text(routed));
  const double activations =
      layers * (tokens * (8 * hidden + 8 * heads + 4 * inner) + routed * (2 * hidden + 4 * inner));
  checks->That(activations <= number(kElementsMax), "batch.micro_batch_sequences",
               "too many activations of a micro-batch in all layers", wanted, Text(activations));
}

void CheckData(const TrainConfig& config, Checks* checks) {
  const DataConfig& data = config.data();
  checks->Set("data.directory", data.directory());
  const std::string length = "data.sequence_length";
  if (checks->Between(length, data.sequence_length(), 2, kRowsMax) && config.model().has_hunyuan_lm()) {
    const int64_t positions = config.model().hunyuan_lm().max_position_embeddings();
    checks->That(positions <= 0 || data.sequence_length() <= positions, length, "longer than the model is meant for",
                 absl::StrCat("at most model.hunyuan_lm.max_position_embeddings = ", positions),
                 Text(data.sequence_length()));
  }
  CheckPrepare(data.prepare(), checks);
}

void CheckLockFree(const TrainConfig& config, const RunFacts& facts, Checks* checks) {
  const LockFreeConfig& lock_free = config.optimizer().lock_free();
  checks->Between("lock_free.max_staleness", lock_free.max_staleness(), 0, kStalenessMax);
  for (const auto& [field, band] : {std::pair("lock_free.loss_band", lock_free.loss_band()),
                                    std::pair("lock_free.gradient_norm_band", lock_free.gradient_norm_band())}) {
    checks->That(band == 0 || (band > 1 && band <= kFloatMax), field, "not a band", "0 (off) or more than 1",
                 Text(band));
  }
  const int64_t stage = config.sharding().zero_stage();
  checks->That(config.optimizer().update() != OptimizerConfig::LOCK_FREE || facts.world_size == 1 || stage == 3,
               "update",
               absl::StrCat("at sharding.zero_stage ", stage, " ranks have copies of parameters that others update"),
               "SYNCHRONOUS, or sharding.zero_stage 3", "LOCK_FREE");
}

void CheckOptimizer(const TrainConfig& config, const RunFacts& facts, Checks* all) {
  const OptimizerConfig& optimizer = config.optimizer();
  Checks checks("optimizer.");
  checks.Positive("adamw.learning_rate", optimizer.adamw().learning_rate());
  checks.Decay("adamw.beta1", optimizer.adamw().beta1());
  checks.Decay("adamw.beta2", optimizer.adamw().beta2());
  checks.Positive("adamw.epsilon", optimizer.adamw().epsilon());
  checks.NotNegative("adamw.weight_decay", optimizer.adamw().weight_decay());
  checks.NotNegative("gradient_clip_norm", optimizer.gradient_clip_norm());
  const double ema_decay = optimizer.ema_decay();
  checks.That(ema_decay >= 0 && ema_decay < 1 && static_cast<float>(1 - ema_decay) >= kFloatMin, "ema_decay",
              "out of range", "at least 0 and less than 1", Text(ema_decay));
  const ScheduleConfig& schedule = optimizer.schedule();
  if (checks.Between("schedule.warmup_steps", schedule.warmup_steps(), 0, kStepsMax)) {
    checks.That(config.steps() < 1 || schedule.warmup_steps() <= config.steps(), "schedule.warmup_steps",
                "warm-up is longer than the run", absl::StrCat("at most steps = ", config.steps()),
                Text(schedule.warmup_steps()));
  }
  checks.That(schedule.final_learning_rate_ratio() >= 0 && schedule.final_learning_rate_ratio() <= 1,
              "schedule.final_learning_rate_ratio", "out of range", "0 to 1",
              Text(schedule.final_learning_rate_ratio()));
  checks.Between("skipped_steps_max", optimizer.skipped_steps_max(), 0, kStepsMax);
  CheckLockFree(config, facts, &checks);
  all->Append(checks);
}

void CheckBatch(const TrainConfig& config, const RunFacts& facts, Checks* checks) {
  const int64_t global = config.batch().global_batch_sequences(), micro = config.batch().micro_batch_sequences();
  const bool global_ok = checks->Set("batch.global_batch_sequences", global, kRowsMax);
  if (!checks->Set("batch.micro_batch_sequences", micro, kRowsMax)) return;
  const int64_t length = config.data().sequence_length();
  if (config.model().has_hunyuan_lm() && length >= 2 && length <= kRowsMax) {
    checks->That(micro <= kRowsMax / length, "batch.micro_batch_sequences", "too many tokens in a micro-batch",
                 absl::StrCat("at most ", kRowsMax / length, " sequences of ", length, " tokens"), Text(micro));
  }
  if (!global_ok) return;
  if (!checks->That(global % micro == 0, "batch.global_batch_sequences", "not whole micro-batches",
                    absl::StrCat("a multiple of micro_batch_sequences = ", micro), Text(global))) {
    return;
  }
  // Any number of ranks works as long as each has a micro-batch: samples of zero weight fill the last round.
  checks->That(facts.world_size <= global / micro, "batch.global_batch_sequences",
               absl::StrCat("holds ", global / micro, " micro-batches of ", micro, ", so some of the ",
                            facts.world_size, " ranks would have no work"),
               absl::StrCat("at least ", facts.world_size * micro, " or fewer ranks"), Text(global));
}

// Elements in the smaller of the experts' two weights; the other has twice as many.
int64_t ElementsOfExperts(const HunyuanLmConfig& lm) {
  return lm.num_experts() * lm.hidden_size() * lm.intermediate_size();
}

void CheckExpertDegree(const TrainConfig& config, const RunFacts& facts, Checks* checks) {
  const char* const field = "sharding.expert_degree";
  const int64_t degree = config.sharding().expert_degree();
  const HunyuanLmConfig& lm = config.model().hunyuan_lm();
  if (!checks->Between(field, degree, 1, kCountMax) || degree == 1) return;
  const std::string got = Text(degree);
  if (!checks->That(lm.num_experts() > 0, field, "the model has no experts to split", "1", got) ||
      !checks->That(lm.num_experts() % degree == 0, field, "ranks would have different numbers of experts",
                    absl::StrCat("a divisor of num_experts = ", lm.num_experts()), got) ||
      !checks->That(facts.world_size % degree == 0, field, "some experts would have fewer ranks",
                    absl::StrCat("a divisor of the ", facts.world_size, " ranks"), got)) {
    return;
  }
  checks->That(
      PartsAreWhole(ElementsOfExperts(lm), facts.world_size), field, "ranks' slices of experts would not be whole",
      absl::StrCat("1, or num_experts * hidden_size * intermediate_size = ", ElementsOfExperts(lm), " a multiple of ",
                   kSliceAlignment, " elements for each of the ", facts.world_size, " ranks"),
      got);
  const int64_t length = config.data().sequence_length();
  checks->That(
      length % kExchangedTokens == 0, field, "what ranks exchange of a sequence would not be whole cache lines",
      absl::StrCat("1, or data.sequence_length a multiple of ", kExchangedTokens), absl::StrCat(got, " and ", length));
}

void CheckRun(const TrainConfig& config, const RunFacts& facts, Checks* checks) {
  checks->Set("steps", config.steps(), kStepsMax);
  if (checks->Between("evaluation.every_steps", config.evaluation().every_steps(), 0, kStepsMax) &&
      config.evaluation().every_steps() > 0) {
    checks->Set("evaluation.sequences", config.evaluation().sequences(), kRowsMax);
    checks->That(config.evaluation().weights() == EvaluationConfig::LAST || config.optimizer().ema_decay() > 0,
                 "evaluation.weights", "there is no average of the weights", "LAST, or optimizer.ema_decay above 0",
                 "EMA");
  }
  CheckSampling(config, checks);
  checks->Between("sharding.zero_stage", config.sharding().zero_stage(), 0, 3);
  CheckExpertDegree(config, facts, checks);
}

void CheckMemory(const MemoryConfig& memory, const RunFacts& facts, Checks* checks) {
  const int64_t page = memory.page_bytes();
  const bool page_ok = checks->That(
      page >= kPageBytesMin && page <= kPageBytesMax && (page & (page - 1)) == 0, "memory.page_bytes",
      "not a page size", absl::StrCat("a power of two from ", kPageBytesMin, " to ", kPageBytesMax), Text(page));
  const auto budget = [&](const std::string& field, int64_t bytes, const std::string& zero) {
    return checks->That(bytes == 0 || (page_ok ? bytes >= page : bytes > 0), field, "holds no page",
                        absl::StrCat("0 (", zero, ") or at least memory.page_bytes", page_ok ? " = " + Text(page) : ""),
                        Text(bytes));
  };
  const bool device_ok = budget("memory.device_bytes", memory.device_bytes(), "as much as the plan can use");
  const bool host_ok = budget("memory.host_bytes", memory.host_bytes(), "80 % of the machine's memory");
  if (device_ok && host_ok) {
    const int64_t share = facts.machine_memory_bytes / facts.local_ranks;
    const bool known = facts.machine_memory_bytes > 0;
    const int64_t device = facts.device_is_host_memory ? memory.device_bytes() : 0;
    const std::string wanted = absl::StrCat("at most ", share, " (", facts.machine_memory_bytes, " bytes / ",
                                            facts.local_ranks, " ranks on the machine)");
    if (!known) {
      checks->That(memory.host_bytes() > 0, "memory.host_bytes", "the machine's memory is unknown, so 0 has no meaning",
                   "a number of bytes > 0", "0");
    } else if (checks->That(device <= share, "memory.device_bytes",
                            "more than the rank's share of the machine's memory", wanted, Text(device))) {
      // device <= share, so the subtraction cannot overflow; the sum could.
      checks->That(memory.host_bytes() <= share - device, "memory.host_bytes",
                   absl::StrCat("with ", device, " device bytes more than the rank's share of the machine's memory"),
                   wanted, Text(memory.host_bytes()));
    }
  }
  const NvmeConfig& nvme = memory.nvme();
  budget("memory.nvme.bytes", nvme.bytes(), "as much as the plan needs");
  if (nvme.directory().empty()) {
    checks->That(nvme.bytes() == 0, "memory.nvme.directory", "not set, but memory.nvme.bytes is", "a directory",
                 "none");
  } else if (page_ok) {
    checks->That(page >= kFilePageBytesMin, "memory.page_bytes", "too small for memory.nvme",
                 absl::StrCat("at least ", kFilePageBytesMin), Text(page));
  }
  checks->Between("memory.prefetch_steps", memory.prefetch_steps(), 0, kCountMax);
  checks->That(memory.device_reserve_bytes() >= 0, "memory.device_reserve_bytes", "less than nothing", "at least 0",
               Text(memory.device_reserve_bytes()));
}

// A sum over micro-batches in bf16 would lose small contributions, and the second micro-batch would find gradients in
// the place of the parameters.
void CheckGradientType(const TrainConfig& config, const RunFacts& facts, Checks* checks) {
  if (config.numerics().gradients() == NumericsConfig::FP32) return;
  const std::string field = "numerics.gradients";
  checks->That(config.numerics().compute() == NumericsConfig::BF16, field,
               "without a master copy nothing makes parameters again whose place gradients took",
               "FP32, or numerics.compute BF16", "BF16");
  checks->That(config.optimizer().update() == OptimizerConfig::SYNCHRONOUS, field,
               "a lock-free update reads parameters in place while gradients take it",
               "FP32, or optimizer.update SYNCHRONOUS", "BF16");
  const int64_t micro = config.batch().micro_batch_sequences(), at_once = micro * facts.world_size;
  const int64_t global = config.batch().global_batch_sequences();
  if (micro < 1 || micro > kRowsMax || global < 1) return;
  checks->That(global <= at_once, field,
               absl::StrCat("a step has ", (global + at_once - 1) / at_once,
                            " micro-batches per rank, and only one leaves gradients that are not summed"),
               absl::StrCat("FP32, or batch.micro_batch_sequences of at least ",
                            (global + facts.world_size - 1) / facts.world_size),
               "BF16");
}

void CheckNumerics(const NumericsConfig& numerics, const RunFacts& facts, Checks* checks) {
  const int most = facts.kernel_threads_max;
  if (checks->Between("numerics.threads_per_rank", numerics.threads_per_rank(), 0, 1024)) {
    checks->That(most == 0 || numerics.threads_per_rank() <= most, "numerics.threads_per_rank",
                 "more than the matrix library was built for", absl::StrCat("at most ", most),
                 Text(int64_t{numerics.threads_per_rank()}));
  }
  checks->Set("numerics.lm_head_chunk_tokens", numerics.lm_head_chunk_tokens(), kWidthMax);
  checks->Set("numerics.expert_block_rows", numerics.expert_block_rows(), kWidthMax);
}

void CheckCommunication(const CommunicationConfig& communication, const RunFacts& facts, Checks* checks) {
  const auto transport = communication.transport();
  const std::string got = CommunicationConfig::Transport_Name(transport);
  if (!facts.mpi_built) {
    checks->That(transport != CommunicationConfig::MPI, "communication.transport", "this build has no MPI",
                 "AUTO or LOCAL, or a build with ANGEL_PTM_MPI=ON", got);
    checks->That(transport != CommunicationConfig::AUTO || !facts.started_by_mpirun, "communication.transport",
                 "started by mpirun, but this build has no MPI",
                 "a build with ANGEL_PTM_MPI=ON or a start without mpirun", got);
  }
  checks->That(transport != CommunicationConfig::LOCAL || !facts.started_by_mpirun, "communication.transport",
               "every process that mpirun started would train alone", "AUTO or MPI under mpirun", got);
  if (checks->Between("communication.local_ranks", communication.local_ranks(), 1, kCountMax)) {
    const bool local =
        transport == CommunicationConfig::LOCAL || (transport == CommunicationConfig::AUTO && !facts.started_by_mpirun);
    checks->That(local || communication.local_ranks() == 1, "communication.local_ranks",
                 "with MPI each process is one rank", "1", Text(int64_t{communication.local_ranks()}));
  }
  checks->Positive("communication.timeout_seconds", communication.timeout_seconds(), kSecondsMax);
  const int per_node = communication.ranks_per_node();
  if (checks->Between("communication.ranks_per_node", per_node, 0, kCountMax) && per_node > 0) {
    checks->That(facts.world_size % per_node == 0, "communication.ranks_per_node", "the nodes would differ",
                 absl::StrCat("a divisor of the ", facts.world_size, " ranks"), Text(int64_t{per_node}));
  }
}

void CheckWriting(const TrainConfig& config, Checks* checks) {
  checks->Between("checkpoint.every_steps", config.checkpoint().every_steps(), 0, kStepsMax);
  checks->Set("checkpoint.keep_last", config.checkpoint().keep_last(), kRowsMax);
  checks->Set("output.directory", config.output().directory());
  checks->Set("output.log_every_steps", config.output().log_every_steps(), kStepsMax);
  checks->Between("output.report_every_steps", config.output().report_every_steps(), 0, kStepsMax);
  if (checks->Between("output.trace_steps", config.output().trace_steps(), 0, kTraceStepsMax) &&
      checks->Between("output.trace_first_step", config.output().trace_first_step(), 0, kStepsMax) &&
      config.output().trace_steps() > 0) {
    checks->That(config.output().trace_first_step() < config.steps(), "output.trace_first_step",
                 "the run ends before it", absl::StrCat("below steps, ", config.steps()),
                 Text(config.output().trace_first_step()));
  }
}

}  // namespace

absl::Status Validate(const TrainConfig& config, const RunFacts& facts) {
  APTM_CHECK(facts.world_size >= 1 && facts.local_ranks >= 1 && facts.local_ranks <= facts.world_size &&
                 facts.cores >= 1 && facts.machine_memory_bytes >= 0,
             "world ", facts.world_size, ", local ranks ", facts.local_ranks, ", cores ", facts.cores);
  Checks checks("");
  CheckModel(config, &checks);
  CheckData(config, &checks);
  CheckOptimizer(config, facts, &checks);
  CheckBatch(config, facts, &checks);
  CheckRun(config, facts, &checks);
  CheckMemory(config.memory(), facts, &checks);
  CheckNumerics(config.numerics(), facts, &checks);
  const bool by_nccl =
      config.device() == TrainConfig::CUDA && config.communication().device_transport() == DeviceTransport::NCCL;
  checks.That(config.numerics().sums() != NumericsConfig::NCCL_SUMS || by_nccl, "numerics.sums",
              "NCCL sums what it carries", "ORDERED, or device CUDA and communication.device_transport NCCL",
              "NCCL_SUMS");
  CheckGradientType(config, facts, &checks);
  CheckCommunication(config.communication(), facts, &checks);
  checks.That(config.communication().device_transport() != DeviceTransport::NCCL || config.device() != TrainConfig::CPU,
              "communication.device_transport", "device CPU leaves all GPUs out, and NCCL sends between them",
              "AUTO, or device CUDA", "NCCL");
  CheckWriting(config, &checks);
  if (checks.ok()) CheckProducts(config, &checks);
  return checks.ToStatus();
}

DType ComputeType(const TrainConfig& config) {
  return config.numerics().compute() == NumericsConfig::BF16 ? DType::kBFloat16 : DType::kFloat32;
}

DType GradientType(const TrainConfig& config) {
  return config.numerics().gradients() == NumericsConfig::BF16 ? DType::kBFloat16 : DType::kFloat32;
}

int64_t HeadDim(const HunyuanLmConfig& lm) {
  return lm.head_dim() != 0 ? lm.head_dim() : lm.hidden_size() / lm.num_attention_heads();
}

int64_t KeyValueHeads(const HunyuanLmConfig& lm) {
  return lm.num_key_value_heads() != 0 ? lm.num_key_value_heads() : lm.num_attention_heads();
}

bool CanSplitExperts(const TrainConfig& config, int64_t degree, int world_size) {
  if (degree == 1) return true;
  const HunyuanLmConfig& lm = config.model().hunyuan_lm();
  return lm.num_experts() > 0 && lm.num_experts() % degree == 0 && world_size % degree == 0 &&
         PartsAreWhole(ElementsOfExperts(lm), world_size) && config.data().sequence_length() % kExchangedTokens == 0;
}

WorldShape WorldOf(const CommunicationConfig& communication, int world_size, int of_machine) {
  if (communication.ranks_per_node() > 0) return {world_size, communication.ranks_per_node()};
  return {world_size, of_machine > 0 && world_size % of_machine == 0 ? of_machine : 0};
}

DerivedConfig Derive(const TrainConfig& config, const RunFacts& facts) {
  const int64_t micro = config.batch().micro_batch_sequences();
  APTM_CHECK(micro > 0, "Derive needs a config that Validate accepted");
  DerivedConfig derived;
  derived.micro_batches = config.batch().global_batch_sequences() / micro;
  derived.accumulation_steps = (derived.micro_batches + facts.world_size - 1) / facts.world_size;
  derived.step_tokens = config.batch().global_batch_sequences() * SequenceTokens(config);
  const int threads = config.numerics().threads_per_rank();
  const int own_cores = facts.rank_cores != 0 ? facts.rank_cores : std::max(1, facts.cores / facts.local_ranks);
  const int most = facts.kernel_threads_max != 0 ? facts.kernel_threads_max : own_cores;
  derived.threads_per_rank = threads != 0 ? threads : std::min(own_cores, most);
  const int64_t all = facts.machine_memory_bytes / facts.local_ranks;
  const int64_t share =
      static_cast<int64_t>(static_cast<double>(facts.machine_memory_bytes) * kHostMemoryShare) / facts.local_ranks;
  derived.host_bytes = config.memory().host_bytes() != 0 ? config.memory().host_bytes() : share;
  if (facts.device_is_host_memory && facts.machine_memory_bytes > 0) {
    // Explicit budgets may exceed the usual share; Validate compares them with the machine. What a plan takes outside
    // the tiers is in no budget.
    derived.tiers_bytes = config.memory().device_bytes() + config.memory().host_bytes() > share ? all : share;
  }
  return derived;
}

}  // namespace angel_ptm
