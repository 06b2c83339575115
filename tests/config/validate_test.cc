#include "angel_ptm/config/validate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tests/config/example_config.h"

namespace angel_ptm {
namespace {

RunFacts Machine(int ranks = 1) {
  return {.world_size = ranks,
          .local_ranks = ranks,
          .machine_memory_bytes = int64_t{8} << 30,
          .cores = 4,
          .mpi_built = true,
          .started_by_mpirun = ranks > 1};
}

std::string ErrorsOf(const std::vector<std::string>& overrides, const RunFacts& facts = Machine()) {
  const absl::Status status = Validate(ExampleConfig(overrides), facts);
  if (status.ok()) return "OK";
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

struct Case {
  std::vector<std::string> overrides;
  std::string error;  // the only line
};

void Expect(const std::vector<Case>& cases, const RunFacts& facts = Machine()) {
  for (const Case& c : cases) {
    SCOPED_TRACE(absl::StrJoin(c.overrides, " "));
    EXPECT_EQ(ErrorsOf(c.overrides, facts), c.error);
  }
}

TEST(Validate, TheExampleIsValid) {
  EXPECT_EQ(ErrorsOf({}), "OK");
  EXPECT_EQ(ErrorsOf({}, Machine(3)), "OK");  // 4 micro-batches on 3 ranks: padded
  EXPECT_EQ(ErrorsOf({"model.hunyuan_lm.num_experts=0", "model.hunyuan_lm.moe_topk=0"}), "OK");
}

TEST(Validate, ModelSizes) {
  const std::string lm = "model.hunyuan_lm.";
  Expect({
      {{lm + "hidden_size=0"}, lm + "hidden_size: not set, wanted 1 to 1048576, got 0"},
      {{lm + "hidden_size=-64"}, lm + "hidden_size: out of range, wanted 1 to 1048576, got -64"},
      {{lm + "hidden_size=72", lm + "head_dim=16"}, lm + "hidden_size: unaligned, wanted a multiple of 16, got 72"},
      {{lm + "intermediate_size=0"}, lm + "intermediate_size: not set, wanted 1 to 1048576, got 0"},
      {{lm + "intermediate_size=40"}, lm + "intermediate_size: unaligned, wanted a multiple of 16, got 40"},
      {{lm + "num_hidden_layers=0"}, lm + "num_hidden_layers: not set, wanted 1 to 65536, got 0"},
      {{lm + "num_attention_heads=0"}, lm + "num_attention_heads: not set, wanted 1 to 65536, got 0"},
      {{lm + "max_position_embeddings=0"}, lm + "max_position_embeddings: not set, wanted 1 to 2147483647, got 0"},
      {{lm + "vocab_size=257"},
       lm + "vocab_size: out of range, wanted 0 (the tokenizer's size) or 258 to 16777216, got 257"},
      {{lm + "vocab_size=0"}, "OK"},
  });
}

// Each size is within its bounds, but their product is not.
TEST(Validate, ProductsOfSizes) {
  const std::string lm = "model.hunyuan_lm.";
  const std::vector<std::string> wide = {lm + "hidden_size=1048576", lm + "intermediate_size=1048576",
                                         lm + "head_dim=64"};
  EXPECT_EQ(ErrorsOf(wide), "OK");
  std::vector<std::string> absurd = wide;
  absurd.push_back(lm + "num_hidden_layers=65536");
  absurd.push_back(lm + "num_experts=65536");
  EXPECT_THAT(ErrorsOf(absurd),
              testing::StartsWith("model.hunyuan_lm: too many parameters, wanted at most 1125899906842624, got 1.4"));
  const std::vector<std::string> routed = {lm + "num_experts=65536", lm + "moe_topk=65536",
                                           "numerics.expert_block_rows=1", "data.sequence_length=65536",
                                           lm + "max_position_embeddings=65536"};
  EXPECT_THAT(
      ErrorsOf(routed),
      testing::StartsWith("batch.micro_batch_sequences: too many rows of tokens for the experts, wanted at most "
                          "2147483647, got "));
  std::vector<std::string> deep = {
      lm + "num_hidden_layers=65536", lm + "intermediate_size=1024",     lm + "moe_topk=0",
      lm + "num_experts=0",           "data.sequence_length=2147483647", lm + "max_position_embeddings=2147483647",
      "batch.micro_batch_sequences=1"};
  EXPECT_THAT(ErrorsOf(deep),
              testing::StartsWith("batch.micro_batch_sequences: too many activations of a micro-batch in "
                                  "all layers, wanted at most 1125899906842624, got "));
}

TEST(Validate, Attention) {
  const std::string lm = "model.hunyuan_lm.";
  Expect({
      {{lm + "num_key_value_heads=3"},
       lm + "num_key_value_heads: query heads cannot share key-value heads evenly, wanted a divisor of "
            "num_attention_heads = 4, got 3"},
      {{lm + "num_key_value_heads=-1"}, lm + "num_key_value_heads: out of range, wanted 0 to 65536, got -1"},
      {{lm + "num_key_value_heads=0"}, "OK"},
      {{lm + "head_dim=-2"}, lm + "head_dim: out of range, wanted 0 to 1048576, got -2"},
      {{lm + "head_dim=15"}, lm + "head_dim: rotary embeddings turn pairs of features, wanted an even number, got 15"},
      {{lm + "num_attention_heads=3", lm + "num_key_value_heads=3"},
       lm + "head_dim: 0 means hidden_size / num_attention_heads, which is not whole, wanted head_dim, or "
            "num_attention_heads that divides hidden_size, got 64 / 3"},
      {{lm + "head_dim=2", lm + "rope_alpha=1000"},
       lm + "head_dim: rope_alpha has no meaning for one pair of features, wanted more than 2, got 2"},
      {{lm + "head_dim=2"}, "OK"},
  });
}

TEST(Validate, Experts) {
  const std::string lm = "model.hunyuan_lm.";
  Expect({
      {{lm + "num_experts=1", lm + "moe_topk=1"},
       lm + "num_experts: one expert routes nothing, wanted 0 (dense) or at least 2, got 1"},
      {{lm + "num_experts=-4"}, lm + "num_experts: out of range, wanted 0 to 65536, got -4"},
      {{lm + "moe_topk=0"}, lm + "moe_topk: tokens cannot visit that many experts, wanted 1 to num_experts = 4, got 0"},
      {{lm + "moe_topk=5"}, lm + "moe_topk: tokens cannot visit that many experts, wanted 1 to num_experts = 4, got 5"},
      {{lm + "num_experts=0"}, lm + "moe_topk: a dense model (num_experts = 0) routes nothing, wanted 0, got 2"},
      {{lm + "num_experts=0", lm + "moe_topk=0", lm + "router_aux_loss_coefficient=0.5"},
       lm + "router_aux_loss_coefficient: a dense model (num_experts = 0) routes nothing, wanted 0, got 0.5"},
      {{lm + "router_aux_loss_coefficient=-1"},
       lm + "router_aux_loss_coefficient: out of range, wanted a finite number >= 0, got -1"},
  });
}

TEST(Validate, ModelNumbers) {
  const std::string lm = "model.hunyuan_lm.";
  Expect({
      {{lm + "rope_theta=0"}, lm + "rope_theta: out of range, wanted a finite number > 0, got 0"},
      {{lm + "rope_alpha=-1"}, lm + "rope_alpha: out of range, wanted a finite number >= 0, got -1"},
      {{lm + "rms_norm_eps=0"}, lm + "rms_norm_eps: out of range, wanted a finite number > 0, got 0"},
      {{lm + "rope_theta=1e39"},
       lm + "rope_theta: too small or too large to compute with, wanted 1.2e-38 to 3.4e+38, got 1e+39"},
      {{lm + "rms_norm_eps=1e-46"},
       lm + "rms_norm_eps: too small or too large to compute with, wanted 1.2e-38 to 3.4e+38, got 1e-46"},
      {{lm + "initializer_range=1e60"},
       lm + "initializer_range: too small or too large to compute with, wanted 1.2e-38 to 1e+06, got 1e+60"},
      {{lm + "initializer_range=1e-50"},
       lm + "initializer_range: too small or too large to compute with, wanted 1.2e-38 to 1e+06, got 1e-50"},
      {{lm + "rope_alpha=1e38"},
       lm + "rope_alpha: the scaled base is too small or too large, wanted rope_theta * rope_alpha^(head_dim / "
            "(head_dim - 2)) from 1.2e-38 to 3.4e+38, got 2.6826957952797105e+47"},
      {{lm + "initializer_range=inf"}, lm + "initializer_range: out of range, wanted a finite number > 0, got inf"},
  });
}

TEST(Validate, NoModelFamily) {
  TrainConfig config = ExampleConfig({});
  config.mutable_model()->clear_hunyuan_lm();
  EXPECT_EQ(Validate(config, Machine()).message(),
            "model: no model family is chosen, wanted one of: hunyuan_lm, dit, hunyuan_dit, got none");
}

TEST(Validate, Data) {
  Expect({
      {{"data.directory="}, "data.directory: not set, wanted a path, got \"\""},
      {{"data.sequence_length=1"}, "data.sequence_length: out of range, wanted 2 to 2147483647, got 1"},
      {{"data.sequence_length=2049"},
       "data.sequence_length: longer than the model is meant for, wanted at most "
       "model.hunyuan_lm.max_position_embeddings = 2048, got 2049"},
      {{"data.sequence_length=2048"}, "OK"},
      {{"data.prepare.vocabulary_size=200"},
       "data.prepare.vocabulary_size: out of range, wanted 258 to 16777216, got 200"},
      {{"data.prepare.validation_fraction=0.6"},
       "data.prepare.validation_fraction: out of range, wanted 0 to 0.5, got 0.6"},
      {{"data.prepare.validation_fraction=nan"},
       "data.prepare.validation_fraction: out of range, wanted 0 to 0.5, got nan"},
      {{"data.prepare.validation_fraction=0.5"}, "OK"},
  });
}

TEST(Validate, Prepare) {
  const auto error = [](const std::vector<std::string>& overrides) {
    return std::string(ValidatePrepare(ExampleConfig(overrides)).message());
  };
  EXPECT_EQ(error({}), "");
  EXPECT_EQ(error({"output.directory=", "steps=0"}), "");  // prepare does not ask for these
  EXPECT_EQ(error({"data.prepare.input=[]", "data.directory="}),
            "data.directory: not set, wanted a path, got \"\"\n"
            "data.prepare.input: not set, wanted at least one file or folder, got none");
  const std::string images = "data.prepare.images.";
  EXPECT_EQ(error({"data.prepare.input=[]", images + "source=EMOJI"}), "");
  EXPECT_EQ(error({"data.prepare.input=[]", images + "source=FOLDER"}),
            "data.prepare.input: not set, wanted at least one file or folder, got none");
  EXPECT_EQ(error({images + "source=FOLDER", images + "height=0", images + "channels=2", images + "damaged_max=-1"}),
            images + "height: out of range, wanted 1 to 16384, got 0\n" + images +
                "channels: neither grey nor colour, wanted 1 or 3, got 2\n" + images +
                "damaged_max: out of range, wanted 0 to 1099511627776, got -1");
  EXPECT_EQ(error({images + "width=64", images + "keep=*a*"}),
            images +
                "width: is for images, and text is prepared, wanted data.prepare.images.source FOLDER or another, " +
                "or it unset, got 64\n" + images + "keep: is for images, and text is prepared, wanted " +
                "data.prepare.images.source FOLDER or another, or it unset, got [\"*a*\"]");
  EXPECT_EQ(error({images + "source=EMOJI", images + "language=fr"}),
            images + "language: is for FOLDER, other sources have languages of their own, wanted it unset, or source " +
                "FOLDER, got fr");
  EXPECT_EQ(error({"data.prepare.input="}), "data.prepare.input[1]: not set, wanted a path, got \"\"");
  EXPECT_EQ(error({"data.prepare.validation_fraction=-0.5"}),
            "data.prepare.validation_fraction: out of range, wanted 0 to 0.5, got -0.5");
}

TEST(Validate, Optimizer) {
  const std::string adamw = "optimizer.adamw.", schedule = "optimizer.schedule.";
  Expect({
      {{adamw + "learning_rate=0"}, adamw + "learning_rate: out of range, wanted a finite number > 0, got 0"},
      {{adamw + "learning_rate=1e300"},
       adamw + "learning_rate: too small or too large to compute with, wanted 1.2e-38 to 3.4e+38, got 1e+300"},
      {{adamw + "learning_rate=1e-46"},
       adamw + "learning_rate: too small or too large to compute with, wanted 1.2e-38 to 3.4e+38, got 1e-46"},
      {{adamw + "epsilon=1e-46"},
       adamw + "epsilon: too small or too large to compute with, wanted 1.2e-38 to 3.4e+38, got 1e-46"},
      {{adamw + "epsilon=1e60"},
       adamw + "epsilon: too small or too large to compute with, wanted 1.2e-38 to 3.4e+38, got 1e+60"},
      {{adamw + "weight_decay=1e39"},
       adamw + "weight_decay: too small or too large to compute with, wanted 1.2e-38 to 3.4e+38, got 1e+39"},
      {{adamw + "beta2=0.99999999999"},
       adamw + "beta2: too close to 0 or 1 to compute with, wanted 0 or 1.2e-38 to 0.99997, got 0.99999999999"},
      {{adamw + "beta1=1e-46"},
       adamw + "beta1: too close to 0 or 1 to compute with, wanted 0 or 1.2e-38 to 0.99997, got 1e-46"},
      {{adamw + "beta2=0.9999"}, "OK"},
      {{adamw + "learning_rate=nan"}, adamw + "learning_rate: out of range, wanted a finite number > 0, got nan"},
      {{adamw + "learning_rate=inf"}, adamw + "learning_rate: out of range, wanted a finite number > 0, got inf"},
      {{adamw + "beta1=1"}, adamw + "beta1: out of range, wanted at least 0 and less than 1, got 1"},
      {{adamw + "beta1=0"}, "OK"},
      {{adamw + "beta2=-0.1"}, adamw + "beta2: out of range, wanted at least 0 and less than 1, got -0.1"},
      {{adamw + "epsilon=0"}, adamw + "epsilon: out of range, wanted a finite number > 0, got 0"},
      {{adamw + "weight_decay=-1"}, adamw + "weight_decay: out of range, wanted a finite number >= 0, got -1"},
      {{"optimizer.gradient_clip_norm=-1"},
       "optimizer.gradient_clip_norm: out of range, wanted a finite number >= 0, got -1"},
      {{"optimizer.gradient_clip_norm=0"}, "OK"},
      {{schedule + "warmup_steps=1001"},
       schedule + "warmup_steps: warm-up is longer than the run, wanted at most steps = 1000, got 1001"},
      {{schedule + "warmup_steps=-1"}, schedule + "warmup_steps: out of range, wanted 0 to 1099511627776, got -1"},
      {{schedule + "final_learning_rate_ratio=1.5"},
       schedule + "final_learning_rate_ratio: out of range, wanted 0 to 1, got 1.5"},
      {{"optimizer.skipped_steps_max=-1"},
       "optimizer.skipped_steps_max: out of range, wanted 0 to 1099511627776, got -1"},
  });
}

TEST(Validate, Batch) {
  Expect({
      {{"batch.global_batch_sequences=0"}, "batch.global_batch_sequences: not set, wanted 1 to 2147483647, got 0"},
      {{"batch.micro_batch_sequences=-2"}, "batch.micro_batch_sequences: out of range, wanted 1 to 2147483647, got -2"},
      {{"batch.micro_batch_sequences=3"},
       "batch.global_batch_sequences: not whole micro-batches, wanted a multiple of micro_batch_sequences = 3, got 8"},
      {{"batch.micro_batch_sequences=67108864", "batch.global_batch_sequences=67108864"},
       "batch.micro_batch_sequences: too many tokens in a micro-batch, wanted at most 33554431 sequences of 64 tokens, "
       "got 67108864"},
  });
  EXPECT_EQ(ErrorsOf({}, Machine(4)), "OK");
  EXPECT_EQ(
      ErrorsOf({}, Machine(5)),
      "batch.global_batch_sequences: holds 4 micro-batches of 2, so some of the 5 ranks would have no work, wanted "
      "at least 10 or fewer ranks, got 8");
}

TEST(Validate, StepsEvaluationSharding) {
  Expect({
      {{"steps=0"}, "steps: not set, wanted 1 to 1099511627776, got 0"},
      {{"evaluation.every_steps=-1"}, "evaluation.every_steps: out of range, wanted 0 to 1099511627776, got -1"},
      {{"evaluation.sequences=0"}, "evaluation.sequences: not set, wanted 1 to 2147483647, got 0"},
      {{"evaluation.sequences=0", "evaluation.every_steps=0"}, "OK"},
      {{"sharding.zero_stage=4"}, "sharding.zero_stage: out of range, wanted 0 to 3, got 4"},
      {{"sharding.zero_stage=-1"}, "sharding.zero_stage: out of range, wanted 0 to 3, got -1"},
  });
}

TEST(Validate, Memory) {
  const std::string page_error =
      "memory.page_bytes: not a page size, wanted a power of two from 4096 to 1073741824, got ";
  Expect({
      {{"memory.page_bytes=0"}, page_error + "0"},
      {{"memory.page_bytes=2048"}, page_error + "2048"},
      {{"memory.page_bytes=12288"}, page_error + "12288"},
      {{"memory.page_bytes=2147483648"}, page_error + "2147483648"},
      {{"memory.page_bytes=4096"}, "OK"},
      {{"memory.device_bytes=4194303"},
       "memory.device_bytes: holds no page, wanted 0 (as much as the plan can use) or at least memory.page_bytes = "
       "4194304, got 4194303"},
      {{"memory.host_bytes=-1"},
       "memory.host_bytes: holds no page, wanted 0 (80 % of the machine's memory) or at least memory.page_bytes = "
       "4194304, got -1"},
      {{"memory.prefetch_steps=-1"}, "memory.prefetch_steps: out of range, wanted 0 to 65536, got -1"},
      {{"memory.prefetch_steps=0"}, "OK"},
  });
}

TEST(Validate, BudgetsBeyondTheMachine) {
  const std::string share = "wanted at most 4294967296 (8589934592 bytes / 2 ranks on the machine), got ";
  Expect(
      {
          {{"memory.host_bytes=4294967296"}, "OK"},
          {{"memory.host_bytes=4294967297"},
           "memory.host_bytes: with 0 device bytes more than the rank's share of the machine's memory, " + share +
               "4294967297"},
          {{"memory.device_bytes=9000000000000000000"},
           "memory.device_bytes: more than the rank's share of the machine's memory, " + share + "9000000000000000000"},
          {{"memory.device_bytes=3000000000", "memory.host_bytes=3000000000"},
           "memory.host_bytes: with 3000000000 device bytes more than the rank's share of the machine's memory, " +
               share + "3000000000"},
      },
      Machine(2));
  RunFacts gpu = Machine(2);
  gpu.device_is_host_memory = false;
  EXPECT_EQ(ErrorsOf({"memory.device_bytes=80000000000", "memory.host_bytes=3000000000"}, gpu), "OK");
  RunFacts unknown = Machine();
  unknown.machine_memory_bytes = 0;
  EXPECT_EQ(ErrorsOf({"memory.host_bytes=3000000000"}, unknown), "OK");
  EXPECT_EQ(
      ErrorsOf({}, unknown),
      "memory.host_bytes: the machine's memory is unknown, so 0 has no meaning, wanted a number of bytes > 0, got 0");
}

TEST(Validate, Numerics) {
  Expect({
      {{"numerics.threads_per_rank=1025"}, "numerics.threads_per_rank: out of range, wanted 0 to 1024, got 1025"},
      {{"numerics.threads_per_rank=-1"}, "numerics.threads_per_rank: out of range, wanted 0 to 1024, got -1"},
      {{"numerics.lm_head_chunk_tokens=0"}, "numerics.lm_head_chunk_tokens: not set, wanted 1 to 1048576, got 0"},
      {{"numerics.expert_block_rows=-8"}, "numerics.expert_block_rows: out of range, wanted 1 to 1048576, got -8"},
  });
}

TEST(Validate, GradientsInBf16AreOfOneMicroBatch) {
  const std::string bf16 = "numerics.compute=BF16", narrow = "numerics.gradients=BF16";
  Expect({
      {{narrow, "batch.micro_batch_sequences=8"},
       "numerics.gradients: without a master copy nothing makes parameters again whose place gradients took, wanted "
       "FP32, or numerics.compute BF16, got BF16"},
      {{narrow, bf16},
       "numerics.gradients: a step has 4 micro-batches per rank, and only one leaves gradients that are not summed, "
       "wanted FP32, or batch.micro_batch_sequences of at least 8, got BF16"},
      {{narrow, bf16, "batch.micro_batch_sequences=8"}, "OK"},
  });
  EXPECT_EQ(ErrorsOf({narrow, bf16}, Machine(4)), "OK");
}

// The ranks of a machine, if all machines are alike.
TEST(Validate, RanksOfANode) {
  CommunicationConfig communication;
  EXPECT_EQ(WorldOf(communication, 8, 4).ranks_per_node, 4);
  for (const int not_alike : {0, 3, 8, 1}) {
    EXPECT_FALSE(WorldOf(communication, 8, not_alike).has_nodes()) << not_alike;
  }
  communication.set_ranks_per_node(2);
  EXPECT_EQ(WorldOf(communication, 8, 4).ranks_per_node, 2);
  communication.set_ranks_per_node(1);
  EXPECT_FALSE(WorldOf(communication, 8, 4).has_nodes());
}

TEST(Validate, Communication) {
  Expect({
      {{"communication.local_ranks=0"}, "communication.local_ranks: out of range, wanted 1 to 65536, got 0"},
      {{"communication.transport=MPI", "communication.local_ranks=2"},
       "communication.local_ranks: with MPI each process is one rank, wanted 1, got 2"},
      {{"memory.device_reserve_bytes=-1"}, "memory.device_reserve_bytes: less than nothing, wanted at least 0, got -1"},
      {{"numerics.sums=NCCL_SUMS", "device=CUDA"},
       "numerics.sums: NCCL sums what it carries, wanted ORDERED, or device CUDA and communication.device_transport "
       "NCCL, got NCCL_SUMS"},
      {{"communication.device_transport=NCCL", "device=CPU"},
       "communication.device_transport: device CPU leaves all GPUs out, and NCCL sends between them, wanted AUTO, or "
       "device CUDA, got NCCL"},
      {{"communication.device_transport=NCCL"}, "OK"},
      {{"communication.ranks_per_node=-1"}, "communication.ranks_per_node: out of range, wanted 0 to 65536, got -1"},
      {{"communication.timeout_seconds=0"},
       "communication.timeout_seconds: out of range, wanted a finite number > 0, got 0"},
  });
  EXPECT_EQ(ErrorsOf({"communication.ranks_per_node=2"}, Machine(4)), "OK");
  EXPECT_EQ(ErrorsOf({"communication.ranks_per_node=3"}, Machine(4)),
            "communication.ranks_per_node: the nodes would differ, wanted a divisor of the 4 ranks, got 3");
  RunFacts threads = Machine(2);
  threads.started_by_mpirun = false;
  EXPECT_EQ(ErrorsOf({"communication.local_ranks=2"}, threads), "OK");
  EXPECT_EQ(ErrorsOf({"communication.transport=LOCAL", "communication.local_ranks=2"}, threads), "OK");
  EXPECT_EQ(ErrorsOf({"communication.local_ranks=2"}, Machine(2)),
            "communication.local_ranks: with MPI each process is one rank, wanted 1, got 2");
  EXPECT_EQ(ErrorsOf({"communication.transport=LOCAL"}, Machine(2)),
            "communication.transport: every process that mpirun started would train alone, wanted AUTO or MPI under "
            "mpirun, got LOCAL");
}

TEST(Validate, BuildWithoutMpi) {
  RunFacts facts = Machine();
  facts.mpi_built = false;
  EXPECT_EQ(ErrorsOf({}, facts), "OK");
  EXPECT_EQ(
      ErrorsOf({"communication.transport=MPI"}, facts),
      "communication.transport: this build has no MPI, wanted AUTO or LOCAL, or a build with ANGEL_PTM_MPI=ON, got "
      "MPI");
  facts.started_by_mpirun = true;
  EXPECT_EQ(
      ErrorsOf({}, facts),
      "communication.transport: started by mpirun, but this build has no MPI, wanted a build with ANGEL_PTM_MPI=ON "
      "or a start without mpirun, got AUTO");
}

TEST(Validate, Writing) {
  Expect({
      {{"checkpoint.every_steps=-1"}, "checkpoint.every_steps: out of range, wanted 0 to 1099511627776, got -1"},
      {{"checkpoint.every_steps=0"}, "OK"},
      {{"checkpoint.keep_last=0"}, "checkpoint.keep_last: not set, wanted 1 to 2147483647, got 0"},
      {{"output.directory="}, "output.directory: not set, wanted a path, got \"\""},
      {{"output.trace_steps=-1"}, "output.trace_steps: out of range, wanted 0 to 1000, got -1"},
      {{"output.trace_steps=1", "output.trace_first_step=1000000"},
       "output.trace_first_step: the run ends before it, wanted below steps, 1000, got 1000000"},
      {{"output.log_every_steps=0"}, "output.log_every_steps: not set, wanted 1 to 1099511627776, got 0"},
  });
}

TEST(Validate, AllErrorsAtOnceInOrder) {
  const std::string errors =
      ErrorsOf({"output.directory=", "model.hunyuan_lm.num_key_value_heads=3", "model.hunyuan_lm.moe_topk=9",
                "data.sequence_length=0", "optimizer.adamw.learning_rate=-1", "optimizer.adamw.beta1=2", "steps=0",
                "batch.micro_batch_sequences=5", "sharding.zero_stage=7", "memory.page_bytes=5000",
                "numerics.expert_block_rows=0", "communication.timeout_seconds=-1", "checkpoint.keep_last=-1"});
  std::vector<std::string> fields;
  for (const std::string& line : std::vector<std::string>(absl::StrSplit(errors, '\n'))) {
    EXPECT_THAT(line, testing::MatchesRegex("[a-z0-9_.]+: .+, wanted .+, got .+"));
    fields.push_back(line.substr(0, line.find(':')));
  }
  EXPECT_THAT(fields, testing::ElementsAre(
                          "model.hunyuan_lm.num_key_value_heads", "model.hunyuan_lm.moe_topk", "data.sequence_length",
                          "optimizer.adamw.learning_rate", "optimizer.adamw.beta1", "batch.global_batch_sequences",
                          "steps", "sharding.zero_stage", "memory.page_bytes", "numerics.expert_block_rows",
                          "communication.timeout_seconds", "checkpoint.keep_last", "output.directory"));
}

TEST(Validate, AnEmptyConfigNamesWhatMustBeSet) {
  const auto config = ParseTrainConfig("", "empty");
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(Validate(*config, Machine()).message(),
            "model: no model family is chosen, wanted one of: hunyuan_lm, dit, hunyuan_dit, got none\n"
            "data.directory: not set, wanted a path, got \"\"\n"
            "output.directory: not set, wanted a path, got \"\"");
}

TEST(Derive, Heads) {
  const std::string lm = "model.hunyuan_lm.";
  EXPECT_EQ(HeadDim(ExampleConfig({}).model().hunyuan_lm()), 16);
  EXPECT_EQ(HeadDim(ExampleConfig({lm + "head_dim=32"}).model().hunyuan_lm()), 32);
  EXPECT_EQ(KeyValueHeads(ExampleConfig({}).model().hunyuan_lm()), 2);
  EXPECT_EQ(KeyValueHeads(ExampleConfig({lm + "num_key_value_heads=0"}).model().hunyuan_lm()), 4);
}

TEST(Derive, ThreadsAreTheRanksOwnCoresUpToWhatLibrariesServe) {
  RunFacts facts = Machine(2);
  facts.cores = 8;
  EXPECT_EQ(Derive(ExampleConfig({}), facts).threads_per_rank, 4);
  facts.rank_cores = 6;  // its launcher has bound it to cores, which are not divided again
  EXPECT_EQ(Derive(ExampleConfig({}), facts).threads_per_rank, 6);
  facts.kernel_threads_max = 5;
  EXPECT_EQ(Derive(ExampleConfig({}), facts).threads_per_rank, 5);
  EXPECT_EQ(ErrorsOf({"numerics.threads_per_rank=6"}, facts),
            "numerics.threads_per_rank: more than the matrix library was built for, wanted at most 5, got 6");
  EXPECT_EQ(ErrorsOf({"numerics.threads_per_rank=5"}, facts), "OK");
}

TEST(Derive, BatchAndSizes) {
  const DerivedConfig one = Derive(ExampleConfig({}), Machine());
  EXPECT_EQ(one.micro_batches, 4);
  EXPECT_EQ(one.accumulation_steps, 4);
  EXPECT_EQ(one.step_tokens, 512);
  EXPECT_EQ(one.threads_per_rank, 4);
  EXPECT_EQ(one.host_bytes, 6871947673);  // 0.8 * 8 GiB, rounded down
  EXPECT_EQ(one.tiers_bytes, 6871947673);

  const DerivedConfig three = Derive(ExampleConfig({}), Machine(3));
  EXPECT_EQ(three.accumulation_steps, 2);
  EXPECT_EQ(three.threads_per_rank, 1);
  EXPECT_EQ(three.host_bytes, 2290649224);
}

TEST(Derive, GivenValuesStay) {
  RunFacts facts = Machine(8);  // more ranks than cores: at least one thread each
  EXPECT_EQ(Derive(ExampleConfig({"batch.global_batch_sequences=16"}), facts).threads_per_rank, 1);
  const DerivedConfig derived =
      Derive(ExampleConfig({"memory.host_bytes=100000000", "numerics.threads_per_rank=3"}), facts);
  EXPECT_EQ(derived.host_bytes, 100000000);
  EXPECT_EQ(derived.tiers_bytes, 858993459);  // 0.8 * 8 GiB / 8 ranks: more than the budget that is set
  EXPECT_EQ(derived.threads_per_rank, 3);
}

TEST(Derive, TiersTogether) {
  // Budgets that are set may take more than the usual 80 %; but the plan needs memory beside them, too.
  const RunFacts facts = Machine();
  EXPECT_EQ(
      Derive(ExampleConfig({"memory.device_bytes=4000000000", "memory.host_bytes=4000000000"}), facts).tiers_bytes,
      facts.machine_memory_bytes);
  RunFacts gpu = facts;
  gpu.device_is_host_memory = false;
  EXPECT_EQ(Derive(ExampleConfig({"memory.device_bytes=80000000000"}), gpu).tiers_bytes, 0);
  RunFacts unknown = facts;
  unknown.machine_memory_bytes = 0;
  EXPECT_EQ(Derive(ExampleConfig({"memory.host_bytes=4000000000"}), unknown).tiers_bytes, 0);
}

}  // namespace
}  // namespace angel_ptm
