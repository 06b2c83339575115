// angel-ptm prepare, import and export: prepares text, and reads and writes weights.
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/checkpoint/diffusers.h"
#include "angel_ptm/checkpoint/huggingface.h"
#include "angel_ptm/data/images/image_listing.h"
#include "angel_ptm/data/images/prepare_images.h"
#include "angel_ptm/data/prepare.h"
#include "angel_ptm/data/tokenizer.h"
#include "angel_ptm/train/import.h"
#include "angel_ptm/train/output_lock.h"
#include "angel_ptm/train/resume_notes.h"
#include "angel_ptm/train/task.h"
#include "angel_ptm/train/tasks/hunyuan_dit.h"
#include "angel_ptm/train/tasks/hunyuan_lm.h"
#include "angel_ptm/train/train_state.h"
#include "launch/commands.h"
#include "launch/progress_lines.h"

namespace angel_ptm {

namespace {

absl::StatusOr<ImageListing> ListImages(const PrepareConfig& prepare) {
  const std::vector<std::string> inputs(prepare.input().begin(), prepare.input().end());
  switch (prepare.images().source()) {
    case PrepareImagesConfig::EMOJI:
      return ListEmoji(inputs);
    case PrepareImagesConfig::TUXPAINT:
      return ListTuxpaintStamps(inputs);
    case PrepareImagesConfig::FASHION_MNIST:
      return ListFashionMnist(inputs);
    default:
      break;
  }
  std::vector<std::string> languages(prepare.images().language().begin(), prepare.images().language().end());
  if (languages.empty()) languages = {"en", "zh"};
  return ListImageFolders(inputs, languages);
}

absl::Status PrepareImageDataset(const TrainConfig& config, const ReportProgress& progress) {
  const PrepareConfig& prepare = config.data().prepare();
  const PrepareImagesConfig& images = prepare.images();
  ASSIGN_OR_RETURN(const ImageListing listing, ListImages(prepare));
  const PrepareImagesOptions options{.output = config.data().directory(),
                                     .height = static_cast<int32_t>(images.height()),
                                     .width = static_cast<int32_t>(images.width()),
                                     .channels = static_cast<int32_t>(images.channels()),
                                     .fit = images.fit() == PrepareImagesConfig::CROP ? Fit::kCrop : Fit::kPad,
                                     .edges = images.edges(),
                                     .keep = {images.keep().begin(), images.keep().end()},
                                     .leave_out = {images.leave_out().begin(), images.leave_out().end()},
                                     .images_max = images.images_max(),
                                     .damaged_max = images.damaged_max(),
                                     .vocabulary_size = static_cast<int32_t>(prepare.vocabulary_size()),
                                     .validation_fraction = prepare.validation_fraction(),
                                     .seed = prepare.seed(),
                                     .progress = progress};
  ASSIGN_OR_RETURN(const PrepareImagesReport report, PrepareImages(listing, options));
  std::printf("%s", report.ToString().c_str());
  return absl::OkStatus();
}

}  // namespace

absl::Status PrepareCommand(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(const Arguments arguments, Arguments::Parse(words, WithConfig({})));
  ASSIGN_OR_RETURN(const TrainConfig config, ConfigFrom(arguments));
  if (config.model().has_hunyuan_dit()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "model.hunyuan_dit trains on latents and text states, which prepare does not make: wanted angel-ptm "
        "encode --images DIR --autoencoder DIR --clip DIR --t5 DIR --output ",
        config.data().directory(), "/train.safetensors"));
  }
  RETURN_IF_ERROR(ValidatePrepare(config));
  const PrepareConfig& prepare = config.data().prepare();
  ProgressLines lines("prepare");
  if (prepare.images().source() != PrepareImagesConfig::NONE) return PrepareImageDataset(config, lines.Reporter());
  const PrepareOptions options{.inputs = {prepare.input().begin(), prepare.input().end()},
                               .output = config.data().directory(),
                               .tokenizer = prepare.tokenizer(),
                               .vocabulary_size = static_cast<int32_t>(prepare.vocabulary_size()),
                               .vocabulary_is_exact = config.model().hunyuan_lm().vocab_size() > 0,
                               .validation_fraction = prepare.validation_fraction(),
                               .seed = prepare.seed(),
                               .memory_bytes_max = MachineFacts().machine_memory_bytes,
                               .progress = lines.Reporter()};
  ASSIGN_OR_RETURN(const PrepareReport report, Prepare(options));
  std::printf("%s", report.ToString().c_str());
  return absl::OkStatus();
}

namespace {

// `read`, and tells how many of `all` parameters it gave.
ReadParameters WithProgress(ReadParameters read, int64_t all, ProgressLines& lines) {
  lines.Report("parameters", 0, all);
  return [read = std::move(read), all, &lines, done = int64_t{0}](UnitId unit, int64_t begin,
                                                                  std::span<float> out) mutable -> absl::Status {
    RETURN_IF_ERROR(read(unit, begin, out));
    done += static_cast<int64_t>(out.size());
    lines.Report("parameters", done, all);
    return absl::OkStatus();
  };
}

// What an export reads: every parameter twice, to write and to compare.
int64_t ReadsOfExport(const ParameterTable& table, absl::FunctionRef<bool(const Unit&)> exports) {
  int64_t reads = 0;
  for (const Unit& unit : table.units) reads += exports(unit) ? 2 * unit.elements : 0;
  return reads;
}

absl::Status CheckFormat(const std::string& format, const char* wanted) {
  if (format == "huggingface" || format == "diffusers") return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--format: wanted ", wanted, ", got ", format));
}

// Checks that the format suits the model family. `where`: what the configuration belongs to.
absl::Status CheckFamily(const TrainConfig& config, const std::string& format, const std::string& where) {
  const bool diffusers = format == "diffusers";
  if (diffusers ? config.model().has_hunyuan_dit() : config.model().has_hunyuan_lm()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--format: ", format, " is for models of model.hunyuan_",
                                                 diffusers ? "dit" : "lm", ", ", where, " has none of these"));
}

absl::Status ExportLanguageModel(CheckpointReader& checkpoint, const TrainConfig& config, const ReadParameters& read,
                                 const std::string& output) {
  ASSIGN_OR_RETURN(const std::string tokenizer_json, checkpoint.ReadCopiedFile("tokenizer.json"));
  ASSIGN_OR_RETURN(const std::string tokenizer_config, checkpoint.ReadCopiedFile("tokenizer_config.json"));
  ASSIGN_OR_RETURN(const auto tokenizer,
                   Tokenizer::FromJson(tokenizer_json, checkpoint.path() + "/tokenizer.json", tokenizer_config));
  const HunyuanLmShape shape = ShapeFromConfig(config.model(), tokenizer->vocabulary_size());
  const std::shared_ptr<const ParameterTable> table = HunyuanLmParameters(shape);
  RETURN_IF_ERROR(checkpoint.Fit(*table));
  const HuggingFaceExport target{
      .model = shape,
      .max_position_embeddings = config.model().hunyuan_lm().max_position_embeddings(),
      .bos_token_id = tokenizer->begin_ids().size() == 1 ? tokenizer->begin_ids()[0] : kNone,
      .eos_token_id = tokenizer->end_of_text_id(),
      .pad_token_id = tokenizer->pad_id(),
      .tokenizer_files = {{"tokenizer.json", tokenizer_json}, {"tokenizer_config.json", tokenizer_config}}};
  ProgressLines lines("export");
  return ExportHuggingFace(WithProgress(read, ReadsOfExport(*table, [](const Unit&) { return true; }), lines), *table,
                           target, output);
}

struct ExportOptions {
  std::string format, weights;
  std::string output;
  std::string base;  // path for the base model if `output` receives its branch; empty: not written
};

absl::Status ExportHunyuanDit(CheckpointReader& checkpoint, const TrainConfig& config, const ReadParameters& read,
                              const ExportOptions& options) {
  const HunyuanDitShape shape = HunyuanDitShapeFromConfig(config.model());
  const std::shared_ptr<const ParameterTable> table = HunyuanDitParameters(shape);
  RETURN_IF_ERROR(checkpoint.Fit(*table));
  const DiffusersPart part = shape.control ? DiffusersPart::kControlNet : DiffusersPart::kModel;
  ProgressLines lines("export");
  const auto exports = [&](const Unit& unit) {
    return !options.base.empty() || IsOfControl(unit) == (part == DiffusersPart::kControlNet);
  };
  const ReadParameters reads = WithProgress(read, ReadsOfExport(*table, exports), lines);
  RETURN_IF_ERROR(ExportDiffusers(reads, *table, shape, part, options.output));
  return options.base.empty() ? absl::OkStatus()
                              : ExportDiffusers(reads, *table, shape, DiffusersPart::kModel, options.base);
}

absl::Status ExportCheckpoint(const std::string& path, const ExportOptions& options) {
  ASSIGN_OR_RETURN(CheckpointReader checkpoint, CheckpointReader::Open(path));
  std::string note;
  ASSIGN_OR_RETURN(const TrainConfig config, StoredConfig(checkpoint, &note));
  if (!note.empty()) std::fprintf(stderr, "note: %s\n", note.c_str());
  RETURN_IF_ERROR(CheckFamily(config, options.format, path));
  if (!options.base.empty() && !config.model().hunyuan_dit().control()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--base: the model of ", path, " has no branch beside it, wanted --output alone"));
  }
  ASSIGN_OR_RETURN(const std::string state, WeightsToRead(checkpoint, options.weights));
  const auto read = [&](UnitId unit, int64_t begin, std::span<float> out) {
    return ReadWeights(checkpoint, state, unit, begin, out);
  };
  RETURN_IF_ERROR(options.format == "diffusers" ? ExportHunyuanDit(checkpoint, config, read, options)
                                                : ExportLanguageModel(checkpoint, config, read, options.output));
  std::printf("exported %s to %s%s and compared every tensor\n", path.c_str(), options.output.c_str(),
              options.base.empty() ? "" : (" and " + options.base).c_str());
  return absl::OkStatus();
}

}  // namespace

absl::Status ExportCommand(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(const Arguments arguments,
                   Arguments::Parse(words, {.flags = {"checkpoint", "format", "output", "base", "weights"}}));
  ASSIGN_OR_RETURN(const std::string format, arguments.Require("format"));
  RETURN_IF_ERROR(CheckFormat(format, "huggingface or diffusers"));
  ASSIGN_OR_RETURN(const std::string output, arguments.Require("output"));
  ASSIGN_OR_RETURN(const std::string given, arguments.Require("checkpoint"));
  return ReadResolved(given, [&](const std::string& path) {
    return ExportCheckpoint(path, {.format = format,
                                   .weights = arguments.Get("weights", "last"),
                                   .output = output,
                                   .base = arguments.Get("base", "")});
  });
}

namespace {

// Reads the task's units from --from and --controlnet.
absl::StatusOr<ReadParameters> ReadFromDiffusers(const Arguments& arguments, const HunyuanDitShape& model,
                                                 const ParameterTable& table) {
  ASSIGN_OR_RETURN(const std::string from, arguments.Require("from"));
  const std::string controlnet = arguments.Get("controlnet", "");
  if (!controlnet.empty() && !model.control) {
    return absl::InvalidArgumentError(
        "--controlnet: the configuration's model has no branch, wanted model.hunyuan_dit.control=true");
  }
  ASSIGN_OR_RETURN(WeightsReader base, OpenDiffusers(from, table, model, DiffusersPart::kModel));
  if (controlnet.empty()) return ReadDiffusers(table, std::move(base), std::nullopt);
  ASSIGN_OR_RETURN(WeightsReader branch, OpenDiffusers(controlnet, table, model, DiffusersPart::kControlNet));
  return ReadDiffusers(table, std::move(base), std::move(branch));
}

// Compares ids and not the files' text, because transformers rewrites a tokenizer.json that it has read.
bool HaveSameIds(const Tokenizer& a, const Tokenizer& b) {
  if (a.vocabulary_size() != b.vocabulary_size() || a.end_of_text_id() != b.end_of_text_id()) return false;
  for (int32_t id = 0; id < a.vocabulary_size(); ++id) {
    if (a.TokenBytes(id) != b.TokenBytes(id)) return false;
  }
  return true;
}

// Checks that the task's data use the token ids of the model in `from`. With other ids its weights would be
// meaningless.
absl::Status CheckTokenizer(const std::string& from, const std::string& data, const Task& task) {
  ASSIGN_OR_RETURN(const bool exists, PathExists(from + "/tokenizer.json"));
  if (!exists) {
    std::fprintf(stderr, "note: %s has no tokenizer.json, so it is not known whether the data use its token ids\n",
                 from.c_str());
    return absl::OkStatus();
  }
  std::string json, config_json;
  for (const CheckpointFile& file : task.checkpoint_files()) {
    if (file.name == "tokenizer.json") json = file.text;
    if (file.name == "tokenizer_config.json") config_json = file.text;
  }
  ASSIGN_OR_RETURN(const auto own, Tokenizer::FromJson(json, data + "/tokenizer.json", config_json));
  ASSIGN_OR_RETURN(const auto its, Tokenizer::LoadFolder(from));
  if (HaveSameIds(*own, *its)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(data, " was prepared with another tokenizer than the model's, wanted that of ", from,
                   ": prepare it with --set data.prepare.tokenizer=", from));
}

absl::StatusOr<ReadParameters> ReadFromHuggingFace(const Arguments& arguments, const TrainConfig& config,
                                                   const Task& task) {
  if (arguments.Has("controlnet")) return absl::InvalidArgumentError("--controlnet is for --format diffusers");
  ASSIGN_OR_RETURN(const std::string from, arguments.Require("from"));
  const HunyuanLmShape model = ShapeFromConfig(config.model(), task.vocab_size());
  ASSIGN_OR_RETURN(WeightsReader weights, OpenHuggingFace(from, task.parameters(), model));
  RETURN_IF_ERROR(CheckTokenizer(from, config.data().directory(), task));
  return [weights = std::make_shared<const WeightsReader>(std::move(weights))](
             UnitId unit, int64_t begin, std::span<float> out) { return weights->Read(unit, begin, out); };
}

// Reads a checkpoint of this program and takes only its weights, to train on with other data, another objective, or
// from the start of a schedule.
absl::StatusOr<ReadParameters> ReadFromCheckpoint(const Arguments& arguments, const TrainConfig& config,
                                                  const Task& task) {
  if (arguments.Has("controlnet")) return absl::InvalidArgumentError("--controlnet is for --format diffusers");
  ASSIGN_OR_RETURN(const std::string from, arguments.Require("from"));
  ASSIGN_OR_RETURN(const std::string path, ResolveCheckpoint(from));
  ASSIGN_OR_RETURN(CheckpointReader opened, CheckpointReader::Open(path));
  const auto checkpoint = std::make_shared<CheckpointReader>(std::move(opened));
  std::string note;
  ASSIGN_OR_RETURN(TrainConfig saved, StoredConfig(*checkpoint, &note));
  if (!note.empty()) std::fprintf(stderr, "note: %s\n", note.c_str());
  *saved.mutable_model()->mutable_freeze() = config.model().freeze();  // what was frozen there does not matter here
  const std::vector<std::string> differences = OtherModelFields(saved, config, task);
  if (!differences.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("--from: ", path, " is of another model: ", absl::StrJoin(differences, "; ")));
  }
  RETURN_IF_ERROR(checkpoint->Fit(task.parameters()));
  if (!task.checkpoint_files().empty()) RETURN_IF_ERROR(CheckTokenizer(path, config.data().directory(), task));
  ASSIGN_OR_RETURN(const std::string state, WeightsToRead(*checkpoint, arguments.Get("weights", "last")));
  return [checkpoint, state](UnitId unit, int64_t begin, std::span<float> out) {
    return ReadWeights(*checkpoint, state, unit, begin, out);
  };
}

// Reads what --from has, in the given format.
absl::StatusOr<ReadParameters> ReadFrom(const std::string& format, const Arguments& arguments,
                                        const TrainConfig& config, const Task& task) {
  if (format == "checkpoint") return ReadFromCheckpoint(arguments, config, task);
  if (arguments.Has("weights")) return absl::InvalidArgumentError("--weights is for --format checkpoint");
  if (format == "huggingface") return ReadFromHuggingFace(arguments, config, task);
  return ReadFromDiffusers(arguments, HunyuanDitShapeFromConfig(config.model()), task.parameters());
}

// Checks that the run is possible on some machine with some number of ranks: an import is a single process on any
// machine, and any number of ranks may resume its checkpoint.
absl::Status ValidateForAnyWorld(const TrainConfig& config) {
  TrainConfig checked = WithoutMachine(config);
  checked.mutable_sharding()->set_expert_degree(1);
  checked.mutable_communication()->set_ranks_per_node(0);
  checked.mutable_numerics()->set_gradients(NumericsConfig::FP32);  // BF16 needs one micro-batch per rank
  RunFacts facts = MachineFacts();
  facts.machine_memory_bytes = 0;
  facts.kernel_threads_max = 0;
  return Validate(checked, facts);
}

}  // namespace

absl::Status ImportCommand(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(const Arguments arguments,
                   Arguments::Parse(words, WithConfig({.flags = {"from", "controlnet", "format", "weights"}})));
  ASSIGN_OR_RETURN(const std::string format, arguments.Require("format"));
  const bool own = format == "checkpoint";
  if (!own) RETURN_IF_ERROR(CheckFormat(format, "huggingface, diffusers or checkpoint"));
  ASSIGN_OR_RETURN(const TrainConfig config, ConfigFrom(arguments));
  RETURN_IF_ERROR(ValidateForAnyWorld(config));
  if (!own) RETURN_IF_ERROR(CheckFamily(config, format, "the configuration"));
  ASSIGN_OR_RETURN(const std::unique_ptr<Task> task, OpenTask(config));
  ASSIGN_OR_RETURN(const ReadParameters read, ReadFrom(format, arguments, config, *task));
  ASSIGN_OR_RETURN(const OutputLock lock, OutputLock::Take(config.output().directory()));
  ASSIGN_OR_RETURN(const LatestCheckpoint latest, FindLatestCheckpoint(CheckpointDirectory(config)));
  if (!latest.path.empty()) {
    return absl::AlreadyExistsError(absl::StrCat(latest.path, " exists already: choose another output.directory"));
  }
  ProgressLines lines("import");
  ASSIGN_OR_RETURN(const SavedCheckpoint saved,
                   ImportWeights(config, *task, WithProgress(read, task->parameters().ParameterCount(), lines)));
  if (!saved.warning.empty()) std::fprintf(stderr, "warning: %s\n", saved.warning.c_str());
  std::printf("imported into %s: train it with --resume\n", saved.path.c_str());
  return absl::OkStatus();
}

}  // namespace angel_ptm
