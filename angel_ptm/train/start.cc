#include "angel_ptm/train/start.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/file_stream.h"
#include "angel_ptm/base/hash.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/train/agreement.h"
#include "angel_ptm/train/initialise.h"
#include "angel_ptm/train/resume_notes.h"
#include "angel_ptm/train/sample.h"

namespace angel_ptm {
namespace {

absl::Status TakeOutput(Run& run, RunStart& start) {
  const std::string& directory = run.config.output().directory();
  absl::StatusOr<std::string> note = std::string();
  if (run.rank() == 0) {
    absl::StatusOr<OutputLock> lock = OutputLock::Take(directory);
    if (lock.ok()) {
      note = lock->note();
      start.lock.emplace(*std::move(lock));
    } else {
      note = lock.status();
    }
  }
  ASSIGN_OR_RETURN(const std::string said, ShareFromRankZero(note, {"the output directory's lock"}, *run.control));
  run.Print(said);
  const std::string held_by = start.lock ? start.lock->holder() : std::string();
  ASSIGN_OR_RETURN(const std::string holder, ShareFromRankZero(held_by, {"who has the lock"}, *run.control));
  constexpr double kSeesAnothersFileSeconds = 10;
  absl::Status writable = CheckWritable(directory, run.rank());
  if (writable.ok()) writable = CheckShared(directory, holder, kSeesAnothersFileSeconds);
  const absl::StatusOr<bool> saved_before = PathExists(CheckpointDirectory(run.config));
  if (writable.ok()) writable = saved_before.status();
  if (writable.ok() && *saved_before) writable = CheckWritable(CheckpointDirectory(run.config), run.rank());
  return ShareStatus(writable, {"writing to the output directory"}, *run.control);
}

absl::StatusOr<std::string> CheckpointOfStep(const std::string& directory, int64_t step) {
  ASSIGN_OR_RETURN(const std::vector<CompleteCheckpoint> checkpoints, ListCompleteCheckpoints(directory));
  std::vector<int64_t> steps;
  for (const CompleteCheckpoint& checkpoint : checkpoints) {
    if (checkpoint.step == step) return checkpoint.path;
    steps.push_back(checkpoint.step);
  }
  return absl::NotFoundError(absl::StrCat(
      "--resume-from: there is no checkpoint of step ", step, " in ", directory,
      steps.empty() ? std::string() : absl::StrCat(", which has those of steps ", absl::StrJoin(steps, ", "))));
}

// Called on rank 0. Returns an empty path for a fresh start.
absl::StatusOr<std::string> ChooseCheckpoint(const Run& run) {
  const std::string directory = CheckpointDirectory(run.config);
  if (run.options.resume_from) return CheckpointOfStep(directory, *run.options.resume_from);
  ASSIGN_OR_RETURN(const LatestCheckpoint latest, FindLatestCheckpoint(directory));
  if (!latest.warning.empty()) run.Print(absl::StrCat("warning: ", latest.warning));
  if (!run.options.resume && !latest.path.empty()) {
    return absl::AlreadyExistsError(absl::StrCat(latest.path,
                                                 " exists already: continue it with --resume, or choose "
                                                 "another output.directory"));
  }
  if (run.options.resume && latest.path.empty()) {
    if (!run.options.start_if_none) {
      return absl::NotFoundError(absl::StrCat("--resume: there is no checkpoint in ", directory));
    }
    run.Print(absl::StrCat("no checkpoint in ", directory, ": the run starts from its first step"));
  }
  return latest.path;
}

absl::Status CheckSameModel(const Run& run, const TrainConfig& saved, const std::string& path) {
  const std::vector<std::string> differences = OtherModelFields(saved, run.config, *run.task);
  if (differences.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("--resume: ", path,
                                                    " is of another model: ", absl::StrJoin(differences, "; "),
                                                    ": restore model{}, or choose another output.directory"));
}

// Collective. Combines the ranks' results of reading the checkpoint. After an error, rank 0 alone looks for a way out.
absl::Status AgreeOnReading(const absl::Status& own, const std::string& path, CallTag tag, const Run& run) {
  const absl::Status shared = ShareStatus(own, tag, *run.control);
  if (shared.ok() || absl::IsUnavailable(shared)) return shared;
  absl::StatusOr<std::string> said = shared;
  if (run.rank() == 0) said = WithOlderCheckpoint(shared, path);
  return ShareFromRankZero(said, {"the way out"}, *run.control).status();
}

absl::Status Resume(Run& run, RunStart& start, const Numerics& numerics) {
  const std::string& path = start.checkpoint;
  absl::StatusOr<CheckpointReader> opened =
      CheckpointReader::Open(path, {}, {.rank = run.rank(), .ranks = run.communicator.size()});
  RETURN_IF_ERROR(AgreeOnReading(opened.status(), path, {"opening the checkpoint"}, run));
  CheckpointReader& checkpoint = *opened;
  std::string left_out;
  ASSIGN_OR_RETURN(const TrainConfig saved, StoredConfig(checkpoint, &left_out));
  RETURN_IF_ERROR(CheckSameModel(run, saved, path));  // names fields, so it comes before what follows from them
  RETURN_IF_ERROR(checkpoint.Fit(*run.plan->training.table));
  ASSIGN_OR_RETURN(start.state, TrainStateFromJson(checkpoint.manifest().trainer_state, path));
  start.state.unit_updates = checkpoint.OfUnits(start.state.unit_updates);
  const std::string sample_order = run.task->sample_order();
  if (start.state.sample_order != sample_order) {
    return absl::FailedPreconditionError(absl::StrCat(
        "--resume: ", path, " was trained on other samples: ", start.state.sample_order, "; this run has ",
        sample_order, ": restore data.directory, data.sequence_length and seed, or choose another output.directory"));
  }
  RETURN_IF_ERROR(AgreeOnReading(LoadState(checkpoint, run.plan->training.states(), run.views), path,
                                 {"reading the checkpoint"}, run));
  run.Print(absl::StrCat("resumed ", path, " at step ", start.state.next_step));
  if (!left_out.empty()) run.Print(absl::StrCat("note: ", left_out));
  for (const StateSpec& spec : run.plan->training.states()) {
    const std::vector<std::string>& saved_states = checkpoint.manifest().states;
    if (!spec.saved || spec.start == StateSpec::Start::kZero) continue;
    if (std::find(saved_states.begin(), saved_states.end(), spec.name) != saved_states.end()) continue;
    run.Print(absl::StrCat("note: the checkpoint has no ", spec.name, ": it starts as a copy of the parameters"));
  }
  for (const std::string& note : ResumeNotes(saved, start.state, run.config, numerics, *run.task)) {
    run.Print(absl::StrCat("note: ", note));
  }
  return absl::OkStatus();
}

// Returns an unused name for `name` in `directory`.
absl::StatusOr<std::string> FreeName(const std::string& directory, const std::string& name) {
  std::string path = absl::StrCat(directory, "/", name);
  for (int number = 1;; ++number) {
    ASSIGN_OR_RETURN(const bool taken, PathExists(path));
    if (!taken) return path;
    path = absl::StrCat(directory, "/", name, ".", number);
  }
}

// Called on rank 0. Moves the newest first: if the process is killed meanwhile, the newest checkpoint that remains is
// still newer than the one resumed from.
absl::StatusOr<std::string> MoveNewer(const Run& run, const RunStart& start) {
  ASSIGN_OR_RETURN(std::vector<CompleteCheckpoint> checkpoints,
                   ListCompleteCheckpoints(CheckpointDirectory(run.config)));
  std::erase_if(checkpoints, [&](const CompleteCheckpoint& c) { return c.step <= start.state.next_step; });
  if (checkpoints.empty()) return std::string();
  const std::string& output = run.config.output().directory();
  const std::string aside = output + "/set-aside";
  RETURN_IF_ERROR(MakeDirectories(aside));
  ASSIGN_OR_RETURN(const bool has_metrics, PathExists(output + "/metrics.jsonl"));
  if (has_metrics) {
    ASSIGN_OR_RETURN(const FileReader lines, FileReader::Open(output + "/metrics.jsonl"));
    ASSIGN_OR_RETURN(const std::string path, FreeName(aside, "metrics.jsonl"));
    ASSIGN_OR_RETURN(AtomicFile copy, AtomicFile::Create(path));
    RETURN_IF_ERROR(AppendFileTo(copy, lines));
    RETURN_IF_ERROR(copy.Commit());
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> samples, NewerSamples(output, start.state.next_step));
  for (const std::string& folder : samples) {
    ASSIGN_OR_RETURN(const std::string to, FreeName(aside, absl::StrCat("samples-", OwnName(folder))));
    RETURN_IF_ERROR(RenamePath(folder, to));
  }
  std::vector<int64_t> steps;
  for (auto it = checkpoints.rbegin(); it != checkpoints.rend(); ++it) {
    ASSIGN_OR_RETURN(const std::string to, FreeName(aside, it->path.substr(it->path.rfind('/') + 1)));
    RETURN_IF_ERROR(RenamePath(it->path, to));
    steps.insert(steps.begin(), it->step);
  }
  return absl::StrCat("note: the newer checkpoints, of steps ", absl::StrJoin(steps, ", "), ", were moved to ", aside,
                      ", with a copy of the metrics");
}

// Called on rank 0. Treats samples like the lines of the metrics: the run makes them again when it reaches their steps.
absl::Status RemoveNewerSamples(const Run& run, const RunStart& start) {
  ASSIGN_OR_RETURN(const std::vector<std::string> newer,
                   NewerSamples(run.config.output().directory(), start.state.next_step));
  for (const std::string& folder : newer) RETURN_IF_ERROR(RemoveTree(folder));
  return absl::OkStatus();
}

// Collective. Different nodes, or another build of the program on one of them, would break the bit-equality of law 1.
absl::Status CheckSameNumerics(Run& run, const Numerics& own) {
  const auto line = [](std::string* out, const auto& field) { absl::StrAppend(out, field.first, "\t", field.second); };
  ASSIGN_OR_RETURN(const std::string text,
                   ShareFromRankZero(absl::StrJoin(own, "\n", line), {"numerics of rank 0"}, *run.control));
  Numerics of_rank_zero;
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(text, '\n'))) {
    const size_t tab = part.find('\t');
    of_rank_zero.emplace_back(part.substr(0, tab), part.substr(tab + 1));
  }
  const NumericsDifference difference = Compare(of_rank_zero, own);
  absl::Status same;
  if (!difference.changed.empty()) {
    same = absl::FailedPreconditionError(absl::StrCat(
        "rank ", run.rank(),
        " computes with other numerics than rank 0 (rank 0's -> its own): ", absl::StrJoin(difference.changed, ", "),
        ": wanted the same program and matrix library on all ranks, and one numerics.threads_per_rank"));
  }
  return ShareStatus(same, {"whether the numerics are the same"}, *run.control);
}

// Collective. Every rank has verified its own plan, including addresses and waits. If all have the same plan, that
// covers all ranks.
absl::Status CheckSamePlan(Run& run) {
  const auto digest = [](const Plan& plan) { return absl::StrCat(absl::Hex(Hash(plan), absl::kZeroPad16)); };
  const std::string own = absl::StrJoin(run.plan->played(), ", ", [&](std::string* out, const RunPlan::Played& played) {
    absl::StrAppend(out, played.name, " ", digest(*played.plan));
  });
  ASSIGN_OR_RETURN(const std::string of_rank_zero, ShareFromRankZero(own, {"plan of rank 0"}, *run.control));
  absl::Status same;
  if (own != of_rank_zero) {
    same = absl::FailedPreconditionError(absl::StrCat("rank ", run.rank(),
                                                      " has another plan than rank 0: the digests of its plans are ",
                                                      own, ", wanted rank 0's, ", of_rank_zero));
  }
  return ShareStatus(same, {"whether the plan is the same"}, *run.control);
}

}  // namespace

LearningRateSchedule ScheduleFromConfig(const TrainConfig& config) {
  const ScheduleConfig& schedule = config.optimizer().schedule();
  const ScheduleKind kind = schedule.kind() == ScheduleConfig::COSINE   ? ScheduleKind::kCosine
                            : schedule.kind() == ScheduleConfig::LINEAR ? ScheduleKind::kLinear
                                                                        : ScheduleKind::kConstant;
  return {kind, config.optimizer().adamw().learning_rate(), schedule.warmup_steps(), config.steps(),
          schedule.final_learning_rate_ratio()};
}

absl::Status StartOrResume(Run& run, RunStart& start) {
  RETURN_IF_ERROR(TakeOutput(run, start));
  if (!run.task->note().empty()) run.Print(absl::StrCat("note: ", run.task->note()));
  absl::StatusOr<std::string> chosen = std::string();
  if (run.rank() == 0) chosen = ChooseCheckpoint(run);
  ASSIGN_OR_RETURN(start.checkpoint, ShareFromRankZero(chosen, {"which checkpoint to go on from"}, *run.control));
  const Numerics numerics = NumericsOf(run.config, run.plan->training_plan.layout.world(), run.derived.threads_per_rank,
                                       run.machine.kernels->name, run.options.build);
  if (start.checkpoint.empty()) {
    RETURN_IF_ERROR(run.task->CheckFreshStart());
    RETURN_IF_ERROR(
        InitialiseState(*run.plan->training.table, run.config.seed(), run.views, run.derived.threads_per_rank));
  } else {
    RETURN_IF_ERROR(Resume(run, start, numerics));
  }
  start.state.sample_order = run.task->sample_order();
  start.state.numerics = numerics;
  return absl::OkStatus();
}

absl::Status VerifyOneSequence(Run& run, const TrainState& state) {
  const TrainConfig& config = run.config;
  int64_t evaluated = 0, sampled = 0;
  for (const Run::Evaluated& bucket : run.evaluated) evaluated += bucket.feeder->source().sample_count();
  for (const Run::Sampled& bucket : run.sampled) sampled += bucket.sampler->count();
  const std::string loop = absl::StrCat(
      "at step ", state.next_step, " of ", config.steps(), " (", run.derived.accumulation_steps,
      " micro-batches a step, evaluation of ", evaluated, " samples every ", config.evaluation().every_steps(),
      " steps, checkpoint every ", config.checkpoint().every_steps(),
      sampled > 0 ? absl::StrCat(", ", sampled, " samples of the model every ", config.sampling().every_steps()) : "",
      ")");
  std::vector<CollectiveEntry> planned;
  std::vector<CollectiveEntry> control = {
      {CollectiveVerb::kBarrier, loop, 0},
      {CollectiveVerb::kBarrier, absl::StrCat("before sample ", state.next_sample, ", ", state.sample_order), 0}};
  const auto append = [&](const Graph& graph, const Plan& plan) {
    for (const Segment& segment : plan.segments) {
      for (const PlannedCollective& c : CollectivesOf(graph, segment)) {
        const CollectiveVerb verb =
            c.kind == StepKind::kReduceScatter ? CollectiveVerb::kReduceScatter : CollectiveVerb::kAllGather;
        (c.kind == StepKind::kNorm ? control : planned).push_back({verb, c.what, c.bytes});
      }
    }
  };
  for (const RunPlan::Played& played : run.plan->played()) append(*played.graph, *played.plan);
  // Comes last, so that anything it changes in the sequence is named first. A learning rate, for example, changes
  // nothing there.
  const uint64_t digest = Hasher().Mix(ToText(config)).Digest();
  control.push_back(
      {CollectiveVerb::kBarrier, absl::StrCat("under configuration ", absl::Hex(digest, absl::kZeroPad16)), 0});
  RETURN_IF_ERROR(run.communicator.VerifySameSequence(planned));
  RETURN_IF_ERROR(run.control->VerifySameSequence(control));
  RETURN_IF_ERROR(CheckSameNumerics(run, state.numerics));
  // Comes after everything that determines a plan, so that such a difference is named first.
  RETURN_IF_ERROR(CheckSamePlan(run));
  return CheckReplicas(run.views, state.next_step, *run.control);
}

absl::Status SetNewerAside(Run& run, const RunStart& start) {
  absl::StatusOr<std::string> note = std::string();
  if (run.rank() == 0) {
    if (run.options.resume_from) note = MoveNewer(run, start);
    const absl::Status removed = note.ok() ? RemoveNewerSamples(run, start) : absl::OkStatus();
    if (!removed.ok()) note = removed;
  }
  ASSIGN_OR_RETURN(const std::string said, ShareFromRankZero(note, {"setting newer checkpoints aside"}, *run.control));
  run.Print(said);
  return absl::OkStatus();
}

}  // namespace angel_ptm
