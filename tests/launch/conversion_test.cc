// The real program exports a trained model as a directory of transformers or diffusers, imports it into another run,
// exports it from there with the same bytes, and trains it on. A model.hunyuan_dit goes alone and with a control
// branch, and its latents become images.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/data/images/codecs.h"
#include "angel_ptm/train/tasks/hunyuan_dit.h"
#include "tests/support/or_die.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_latents.h"

namespace angel_ptm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kTrained = R"(
model {
  hunyuan_dit {
    channels: 2 height: 8 hidden_size: 32 num_hidden_layers: 4 num_attention_heads: 2 clip_hidden_size: 16
    clip_length: 5 t5_hidden_size: 32 t5_length: 6 pooled_size: 16
  }
}
batch { global_batch_sequences: 2 micro_batch_sequences: 2 }
optimizer { schedule { warmup_steps: 0 } ema_decay: 0.9 }
steps: 2
evaluation { every_steps: 0 }
memory { page_bytes: 8192 }
numerics { threads_per_rank: 1 }
)";

class ConversionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(WriteFile(dir_ / "config.textproto", kTrained).ok());
    const TrainConfig config = OrDie(ParseTrainConfig(kTrained, "conversion_test.cc", {}));
    OrDie(WriteTinyLatents(dir_ / "train.safetensors", HunyuanDitShapeFromConfig(config.model()), 6, 1));
  }
  // Returns what the program prints, and sets *failed to whether it failed.
  std::string Run(const std::string& words, bool* failed) {
    const std::string out = dir_ / "said";
    *failed =
        std::system(absl::StrCat("cd ", dir_.path(), " && ", PROGRAM, " ", words, " > ", out, " 2>&1").c_str()) != 0;
    return Slurp(out);
  }
  std::string Succeeds(const std::string& words) {
    bool failed = false;
    std::string said = Run(words, &failed);
    EXPECT_FALSE(failed) << said;
    return said;
  }
  std::string Fails(const std::string& words) {
    bool failed = false;
    std::string said = Run(words, &failed);
    EXPECT_TRUE(failed) << said;
    return said;
  }
  // The command with the configuration, for the run of that name.
  std::string OfRun(const std::string& command, const std::string& run) {
    return absl::StrCat(command, " ", dir_ / "config.textproto", " --set data.directory=", dir_.path(),
                        " --set output.directory=", dir_ / run, " ");
  }
  // Writes a text and a configuration of a tiny language model and prepares the text. Returns the arguments of a
  // command for it.
  std::string PrepareTinyLm() {
    std::string text;
    for (int i = 0; i < 2000; ++i) absl::StrAppend(&text, "the page ", i * 7919 % 1000, " moves to the host\n");
    EXPECT_TRUE(WriteFile(dir_ / "text.txt", text).ok());
    Succeeds("init first --input text.txt");
    const std::string words =
        " first.textproto --set data.prepare.validation_fraction=0.2 --set data.sequence_length=32"
        " --set batch.global_batch_sequences=2 --set batch.micro_batch_sequences=1 --set steps=2"
        " --set optimizer.schedule.warmup_steps=0 --set evaluation.sequences=2 --set numerics.threads_per_rank=1"
        " --set model.hunyuan_lm.max_position_embeddings=64 --set data.prepare.vocabulary_size=300"
        " --set model.hunyuan_lm.hidden_size=32 --set model.hunyuan_lm.intermediate_size=32"
        " --set model.hunyuan_lm.num_hidden_layers=2";
    Succeeds("prepare" + words);
    return words;
  }

  const TemporaryFolder dir_;
};

TEST_F(ConversionTest, DiffusersGoesOutAndIn) {
  Succeeds(OfRun("train", "first"));
  const auto exported = [&](const std::string& run, const std::string& to, const std::string& format) {
    return absl::StrCat("export --checkpoint ", dir_ / run, " --format ", format, " --output ", dir_ / to);
  };
  EXPECT_THAT(Fails(exported("first", "wrong", "huggingface")),
              HasSubstr("huggingface is for models of model.hunyuan_lm"));
  EXPECT_THAT(Succeeds(exported("first", "out/transformer", "diffusers")), HasSubstr("and compared every tensor"));

  const std::string import = absl::StrCat(OfRun("import", "second"), "--format diffusers --from ");
  EXPECT_THAT(Fails(import + (dir_ / "absent")), HasSubstr("absent"));
  EXPECT_THAT(Fails(import + (dir_ / "out") + " --set model.hunyuan_dit.learn_sigma=false"),
              HasSubstr("learn_sigma: the configuration is of another model, wanted false, got true"));
  EXPECT_THAT(Succeeds(import + (dir_ / "out")), HasSubstr("train it with --resume"));
  EXPECT_THAT(Fails(import + (dir_ / "out")), HasSubstr("exists already: choose another output.directory"));
  Succeeds(exported("second", "again", "diffusers"));
  const char* weights = "/diffusion_pytorch_model.safetensors";
  EXPECT_EQ(Slurp(dir_ / "out/transformer" + weights), Slurp(dir_ / "again" + weights));

  Succeeds(absl::StrCat(OfRun("import", "third"), "--format checkpoint --from ", dir_ / "first"));
  Succeeds(exported("third", "third-out", "diffusers"));
  EXPECT_EQ(Slurp(dir_ / "third-out" + weights), Slurp(dir_ / "again" + weights));

  const std::string said = Succeeds(OfRun("train", "second") + "--resume");
  EXPECT_THAT(said, HasSubstr("at step 0"));
  EXPECT_THAT(said, HasSubstr("the checkpoint has no ema: it starts as a copy of the parameters"));
  const std::string generate = absl::StrCat("generate --checkpoint ", dir_ / "second", " --steps 2 --prompt ");
  const std::string output = absl::StrCat(" --output ", dir_ / "latents.safetensors");
  EXPECT_THAT(Succeeds(generate + "0 --prompt 5 --sampler ddpm --images 2" + output), HasSubstr("4 latents in "));
  EXPECT_THAT(Fails(generate + "x" + output), HasSubstr("--prompt: wanted the number of a sample in "));
  EXPECT_THAT(Fails(generate + "0"), HasSubstr("--output is missing"));
  // A path that cannot be written is refused before anything is computed; a missing folder is created.
  EXPECT_THAT(Fails(absl::StrCat(generate, "0 --output ", dir_ / "first")),
              HasSubstr("--output: wanted a file, got the folder "));
  EXPECT_THAT(Fails(absl::StrCat(generate, "0 --output ", dir_ / "config.textproto/x")), HasSubstr("config.textproto"));
  EXPECT_THAT(Succeeds(absl::StrCat(generate, "0 --output ", dir_ / "of/two/latents")), HasSubstr("1 latents in "));
  EXPECT_THAT(Fails(generate + "0 --negative-prompt x" + output),
              HasSubstr("--negative-prompt: wanted the number of a sample in "));
  EXPECT_THAT(Fails(generate + "0 --control-scale 1" + output),
              HasSubstr("--control-scale: the checkpoint's model reads no condition"));
  EXPECT_THAT(Fails(exported("second", "x", "diffusers") + " --base " + (dir_ / "y")),
              HasSubstr("--base: the model of "));
  EXPECT_THAT(Fails(OfRun("prepare", "second")), HasSubstr("angel-ptm encode --images DIR "));
}

// The configuration that init writes for a released model fits that model, its tokenizer included.
TEST_F(ConversionTest, ALanguageModelGoesOutAndIn) {
  std::string text;
  for (int i = 0; i < 2000; ++i) absl::StrAppend(&text, "the page ", i * 7919 % 1000, " moves to the host\n");
  ASSERT_TRUE(WriteFile(dir_ / "text.txt", text).ok());
  const std::string small =
      " --set data.prepare.validation_fraction=0.2 --set data.sequence_length=32 --set batch.global_batch_sequences=2"
      " --set batch.micro_batch_sequences=1 --set steps=2 --set optimizer.schedule.warmup_steps=0"
      " --set evaluation.sequences=2 --set numerics.threads_per_rank=1 --set "
      "model.hunyuan_lm.max_position_embeddings=64";
  Succeeds("init first --input text.txt");
  const std::string tiny = small +
                           " --set data.prepare.vocabulary_size=300 --set model.hunyuan_lm.hidden_size=32"
                           " --set model.hunyuan_lm.intermediate_size=48 --set model.hunyuan_lm.num_hidden_layers=2"
                           " --set model.hunyuan_lm.rope_alpha=50";
  Succeeds("prepare first.textproto" + tiny);
  Succeeds("train first.textproto" + tiny);
  Succeeds("export --checkpoint runs/first/train --format huggingface --output released");

  Succeeds("init second --input text.txt --from released");
  Succeeds("prepare second.textproto" + small);
  EXPECT_EQ(Slurp(dir_ / "runs/second/data/tokenizer.json"), Slurp(dir_ / "released/tokenizer.json"));
  const std::string import = "import second.textproto --from released" + small;
  EXPECT_THAT(Fails(import + " --format diffusers"),
              HasSubstr("--format: diffusers is for models of model.hunyuan_dit"));
  EXPECT_THAT(Fails(import + " --format huggingface --controlnet x"), HasSubstr("--controlnet is for"));
  EXPECT_THAT(Fails(import + " --format huggingface --set model.hunyuan_lm.rope_alpha=0"),
              HasSubstr("released/config.json: the alpha of its RoPE: the configuration is of another model, wanted 0, "
                        "got 50"));
  // Data with other ids are refused. A tokenizer in another notation is accepted, and so is a missing one.
  std::string others;
  for (int i = 0; i < 2000; ++i) absl::StrAppend(&others, "{\"text\": \"quite another text ", i * 31 % 777, "\"}\n");
  ASSERT_TRUE(WriteFile(dir_ / "others.jsonl", others).ok());
  Succeeds(
      "prepare second.textproto --set data.directory=others --set data.prepare.tokenizer= --set "
      "data.prepare.input=[others.jsonl] --set data.prepare.vocabulary_size=300" +
      small);
  EXPECT_THAT(Fails(import + " --format huggingface --set data.directory=others"),
              HasSubstr("others was prepared with another tokenizer than the model's, wanted that of released: prepare "
                        "it with --set data.prepare.tokenizer=released"));
  std::filesystem::copy(dir_ / "released", dir_ / "spaced");
  ASSERT_TRUE(WriteFile(dir_ / "spaced/tokenizer.json", Slurp(dir_ / "released/tokenizer.json") + "\n\n").ok());
  Succeeds("import second.textproto --format huggingface --from spaced --set output.directory=runs/spaced" + small);
  std::filesystem::remove(dir_ / "spaced/tokenizer.json");
  EXPECT_THAT(
      Succeeds("import second.textproto --format huggingface --from spaced --set output.directory=runs/bare" + small),
      HasSubstr("note: spaced has no tokenizer.json"));
  EXPECT_THAT(Succeeds(import + " --format huggingface"), HasSubstr("train it with --resume"));
  Succeeds("export --checkpoint runs/second/train --format huggingface --output again");
  for (const char* file : {"model.safetensors", "tokenizer.json", "config.json"}) {
    EXPECT_EQ(Slurp(dir_ / "released/" + file), Slurp(dir_ / "again/" + file)) << file;
  }
  EXPECT_THAT(Succeeds("train second.textproto --resume" + small),
              AllOf(HasSubstr("at step 0"), Not(HasSubstr("does not record"))));
  EXPECT_THAT(Fails("init third --from absent"), HasSubstr("absent/config.json"));
}

// One process here imports what several ranks of another machine will train.
TEST_F(ConversionTest, AnImportIsForAnyWorld) {
  const std::string words = PrepareTinyLm() + " --set model.hunyuan_lm.num_experts=4 --set model.hunyuan_lm.moe_topk=2";
  Succeeds("train" + words);
  Succeeds("export --checkpoint runs/first/train --format huggingface --output released");
  const std::string split = words +
                            " --set numerics.compute=BF16"
                            " --set output.directory=runs/second --set sharding.expert_degree=2 --set "
                            "numerics.gradients=BF16 --set communication.ranks_per_node=2";
  const std::string import = "import" + split + " --from released --format huggingface";
  EXPECT_THAT(Fails(import + " --set sharding.zero_stage=7"), HasSubstr("sharding.zero_stage: out of range"));
  Succeeds(import + " --set memory.device_bytes=900TB --set communication.transport=MPI");
  EXPECT_THAT(Succeeds("train" + split + " --set communication.local_ranks=2 --resume"), HasSubstr("at step 0"));
}

// A run's weights can start another run on data with the same tokens, also with some of the weights frozen.
TEST_F(ConversionTest, ARunBeginsWithTheWeightsOfAnother) {
  const std::string words = PrepareTinyLm() + " --set optimizer.ema_decay=0.9 --set numerics.compute=BF16";
  Succeeds("train" + words);
  std::string others;
  for (int i = 0; i < 900; ++i) absl::StrAppend(&others, "the host ", i * 31 % 777, " moves\n");
  ASSERT_TRUE(WriteFile(dir_ / "others.txt", others).ok());
  const std::string of_second =
      words +
      " --set data.directory=others --set data.prepare.input=[others.txt] --set output.directory=runs/second/train ";
  Succeeds("prepare" + of_second + "--set data.prepare.tokenizer=runs/first/data");
  const std::string import = "import" + of_second + "--from runs/first/train --format checkpoint";
  EXPECT_THAT(Fails(import + " --set model.hunyuan_lm.rope_theta=77"),
              AllOf(HasSubstr("is of another model: "), HasSubstr("rope_theta")));
  EXPECT_THAT(Fails(import + " --weights mean"), HasSubstr("--weights: wanted last or ema, got mean"));
  EXPECT_THAT(Fails("import" + of_second + "--from runs/first/train --format huggingface --weights ema"),
              HasSubstr("--weights is for --format checkpoint"));
  Succeeds(import + " --set output.directory=runs/averaged/train --weights ema");
  Succeeds(import);
  const auto exported = [&](const std::string& run, const std::string& weights) {
    const std::string to = absl::StrCat(run, "-", weights);
    Succeeds(absl::StrCat("export --format huggingface --checkpoint runs/", run, "/train --output ", to, " --weights ",
                          weights));
    return Slurp(dir_ / to + "/model.safetensors");
  };
  const std::string last = exported("first", "last"), average = exported("first", "ema");
  EXPECT_NE(last, average);
  EXPECT_EQ(exported("second", "last"), last);
  EXPECT_EQ(exported("averaged", "last"), average);
  EXPECT_THAT(Succeeds("train" + of_second + "--resume"), HasSubstr("at step 0"));
  const std::string frozen = " --set output.directory=runs/frozen/train --set model.freeze=embedding";
  Succeeds(import + frozen);
  EXPECT_THAT(Succeeds("train" + of_second + frozen + " --resume"), HasSubstr("at step 0"));

  Succeeds("prepare" + of_second + "--set data.directory=strange");
  EXPECT_THAT(Fails(import + " --set data.directory=strange --set output.directory=runs/third"),
              HasSubstr("strange was prepared with another tokenizer than the model's"));
}

// Every command reads the file that names the token which ends texts.
TEST_F(ConversionTest, ATokenizerMayEndTextsWithAnotherToken) {
  const std::string words = PrepareTinyLm();
  std::filesystem::create_directory(dir_ / "its");
  for (const char* file : {"/tokenizer.json", "/tokenizer_config.json"}) {
    const std::string text = Slurp(dir_ / "runs/first/data" + file);
    ASSERT_TRUE(WriteFile(dir_ / "its" + file, absl::StrReplaceAll(text, {{"<|endoftext|>", "<|eos|>"}})).ok());
  }
  const std::string with_its = words + " --set data.directory=other --set data.prepare.tokenizer=its ";
  Succeeds("prepare" + with_its);
  EXPECT_THAT(Succeeds("plan" + with_its), HasSubstr("least memory.device_bytes that works"));
  Succeeds("train" + with_its);
  EXPECT_THAT(Succeeds("merge --checkpoint runs/first/train --checkpoint runs/first/train --output mean"),
              HasSubstr("merged 2 checkpoints"));
  EXPECT_THAT(Succeeds("generate --checkpoint mean --prompt the --tokens 2"), HasSubstr("--- the"));
}

TEST_F(ConversionTest, AControlNetGoesOutAndIn) {
  const TrainConfig config =
      OrDie(ParseTrainConfig(kTrained, "conversion_test.cc", {"model.hunyuan_dit.control=true"}));
  std::filesystem::remove(dir_ / "train.safetensors");
  OrDie(WriteTinyLatents(dir_ / "train.safetensors", HunyuanDitShapeFromConfig(config.model()), 6, 1));
  const std::string control = " --set model.hunyuan_dit.control=true ";
  const auto exported = [&](const std::string& run, const std::string& to) {
    return absl::StrCat("export --checkpoint ", dir_ / run, " --format diffusers --output ", dir_ / to);
  };
  Succeeds(OfRun("train", "model"));
  Succeeds(exported("model", "out/transformer"));
  EXPECT_THAT(Fails(OfRun("train", "branch") + control), HasSubstr("there is no model to train the branch beside"));
  const auto import = [&](const std::string& run) {
    return absl::StrCat(OfRun("import", run), "--format diffusers --from ", dir_ / "out");
  };
  EXPECT_THAT(Fails(import("other") + " --controlnet " + (dir_ / "out")), HasSubstr("--controlnet: "));
  Succeeds(import("branch") + control);

  // A new branch has no effect on samples.
  const auto sampled = [&](const std::string& run, const std::string& more) {
    const std::string to = dir_ / "latents.safetensors";
    Succeeds(
        absl::StrCat("generate --checkpoint ", dir_ / run, " --steps 2 --prompt 0 --prompt 5 --output ", to, more));
    const SafetensorsReader file = OrDie(SafetensorsReader::Open(to));
    std::vector<float> latents(static_cast<size_t>(file.Find("latents")->shape.elements()));
    OrDie(file.Read(*file.Find("latents"), 0, std::as_writable_bytes(std::span(latents))));
    return latents;
  };
  const std::vector<float> of_model = sampled("model", "");
  EXPECT_EQ(sampled("branch", ""), of_model);

  Succeeds(OfRun("train", "branch") + control + "--resume");
  const std::vector<float> steered = sampled("branch", "");
  EXPECT_NE(steered, of_model);
  EXPECT_EQ(sampled("branch", " --control-scale 1"), steered);
  EXPECT_EQ(sampled("branch", " --control-scale 0"), of_model);
  EXPECT_THAT(
      Fails(absl::StrCat("generate --checkpoint ", dir_ / "branch", " --prompt 0 --control-scale -1 --output x")),
      HasSubstr("--control-scale: wanted a finite number of 0 or more, got -1"));
  EXPECT_THAT(
      Fails(absl::StrCat("generate --checkpoint ", dir_ / "branch", " --prompt a --clip x --t5 x --output x")),
      HasSubstr("--clip, --t5: the checkpoint's model reads a condition beside its texts, wanted --autoencoder"));

  // Both parts come back unchanged.
  EXPECT_THAT(Succeeds(exported("branch", "out/controlnet") + " --base " + (dir_ / "base")),
              HasSubstr(absl::StrCat(" and ", dir_ / "base", " and compared every tensor")));
  const char* weights = "/diffusion_pytorch_model.safetensors";
  EXPECT_EQ(Slurp(dir_ / "base" + weights), Slurp(dir_ / "out/transformer" + weights));
  Succeeds(import("again") + control + "--controlnet " + (dir_ / "out"));
  EXPECT_EQ(sampled("again", ""), steered);
  Succeeds(exported("again", "third"));
  EXPECT_EQ(Slurp(dir_ / "third" + weights), Slurp(dir_ / "out/controlnet" + weights));
}

// An autoencoder with two levels turns latents of 8 x 8 into images of 16 x 16.
TEST_F(ConversionTest, LatentsBecomeImages) {
  if (!HasImageLibraries()) GTEST_SKIP() << "no image libraries";
  Succeeds(OfRun("train", "run"));
  const std::string output = dir_ / "latents.safetensors";
  const std::string generate = absl::StrCat("generate --checkpoint ", dir_ / "run", " --steps 2 --prompt 3 --output ",
                                            output, " --autoencoder ");
  EXPECT_THAT(Fails(generate + (dir_ / "absent")), HasSubstr("absent/config.json"));
  EXPECT_FALSE(OrDie(PathExists(output)));
  const std::string said = Succeeds(absl::StrCat(generate, AUTOENCODER, " --images 2"));
  EXPECT_THAT(said, HasSubstr(absl::StrCat("2 images and ", output, ".images/sheet.png")));
  EXPECT_THAT(said, HasSubstr("2 latents in "));
  const Image image = OrDie(DecodeImage(Slurp(output + ".images/0001.png"), "0001.png"));
  EXPECT_TRUE(image.width == 16 && image.height == 16 && image.channels == 3);
  EXPECT_THAT(Slurp(output + ".images/samples.jsonl"), HasSubstr("sample 3"));
}

}  // namespace
}  // namespace angel_ptm
