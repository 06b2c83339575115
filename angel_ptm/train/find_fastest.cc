// The fastest configuration to train a model on a cluster. Most candidates are ruled out by arithmetic, without a plan.
#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/config/validate.h"
#include "angel_ptm/train/search.h"

namespace angel_ptm {
namespace {

constexpr std::array<int, 4> kPrefetch = {8, 32, 128, 2};
constexpr std::array<int64_t, 3> kPages = {int64_t{4} << 20, int64_t{16} << 20, int64_t{1} << 20};

// The settings in which candidates of one expert degree differ.
struct Varied {
  int64_t micro = 1;
  int stage = 3;
  MemoryConfig::Recomputation choice = MemoryConfig::AUTO;
  int prefetch = kPrefetch[0];
  int64_t page_bytes = kPages[0];

  TrainConfig In(const TrainConfig& config) const {
    TrainConfig with = config;
    with.mutable_batch()->set_micro_batch_sequences(micro);
    with.mutable_sharding()->set_zero_stage(stage);
    with.mutable_memory()->set_recomputation(choice);
    with.mutable_memory()->set_prefetch_steps(prefetch);
    with.mutable_memory()->set_page_bytes(page_bytes);
    return with;
  }
  std::vector<std::string> Settings() const {
    return {absl::StrCat("batch.micro_batch_sequences=", micro), absl::StrCat("sharding.zero_stage=", stage),
            absl::StrCat("memory.recomputation=", MemoryConfig::Recomputation_Name(choice)),
            absl::StrCat("memory.prefetch_steps=", prefetch), absl::StrCat("memory.page_bytes=", page_bytes)};
  }
};

// The micro-batch sizes to try: powers of two, at least one micro-batch per rank. With gradients in bf16 a step has one
// micro-batch per rank, so only the configured size is tried.
std::vector<int64_t> MicroBatches(const TrainConfig& config, int world_size) {
  const int64_t global = config.batch().global_batch_sequences();
  const bool one = GradientType(config) != DType::kFloat32;
  std::vector<int64_t> sizes;
  for (int64_t micro = one ? config.batch().micro_batch_sequences() : 1;
       global % micro == 0 && global / micro >= world_size; micro *= 2) {
    sizes.push_back(micro);
  }
  return sizes;
}

// A lower bound on the step time of any plan.
class StepBound {
 public:
  StepBound(const Cluster& cluster, const RunFactsForPlan& facts)
      : facts_(facts), model_(CostModelOf(cluster, facts.world_size)) {}

  // The graph of the configuration's micro-batch: all blocks recomputed for BLOCKS, else none.
  Graph GraphOf(const TrainConfig& config) const {
    const auto task = MakePlanningTask(config, facts_);
    const bool all = config.memory().recomputation() == MemoryConfig::BLOCKS;
    return task->BuildTraining(std::vector<bool>(static_cast<size_t>(task->recomputable_blocks()), all));
  }
  double Seconds(const TrainConfig& config, const Graph& graph) const {
    const DerivedConfig derived = Derive(config, {.world_size = facts_.world_size, .local_ranks = 1});
    return LeastStepSeconds(graph, model_,
                            {facts_.world_size, facts_.ranks_per_node, config.sharding().expert_degree()},
                            config.sharding().zero_stage(), derived.accumulation_steps);
  }
  double Seconds(const TrainConfig& config) const { return Seconds(config, GraphOf(config)); }

 private:
  const RunFactsForPlan& facts_;
  const CostModel model_;
};

constexpr double kNotKnown = std::numeric_limits<double>::infinity();

class FastestSearch {
 public:
  // known_seconds: step time of a plan that exists already, or kNotKnown.
  FastestSearch(const TrainConfig& config, const Cluster& cluster, const RunFactsForPlan& facts,
                double known_seconds = kNotKnown)
      : config_(config), cluster_(cluster), facts_(facts), bound_(cluster, facts), best_(known_seconds) {}

  // Returns no planned candidate only if a known plan was given and none could beat it.
  absl::StatusOr<FastestRun> Find() {
    List();
    // Best bounds first, so that most others need no plan; equal bounds in the order of listing.
    std::stable_sort(listed_.begin(), listed_.end(), [](const Listed& a, const Listed& b) {
      return a.candidate.bound_seconds < b.candidate.bound_seconds;
    });
    // First one candidate of each kind. Then, where it could matter, those that differ only in how moves are spread
    // over time.
    for (const bool first : {true, false}) {
      for (Listed& listed : listed_) {
        if (listed.first != first) continue;
        if (listed.candidate.bound_seconds >= best_ || Settled(listed)) {
          ++fastest_.pruned;
          continue;
        }
        RETURN_IF_ERROR(Plan(listed));
      }
    }
    if (fastest_.planned.empty() && best_ == kNotKnown) return last_refusal_;
    std::vector<Candidate>& planned = fastest_.planned;
    for (SortBySeconds(planned); !planned.empty() && !planned.front().chose_blocks; SortBySeconds(planned)) {
      RETURN_IF_ERROR(ChooseBlocks(planned.front()));
    }
    if (!planned.empty()) fastest_.best = planned.front();
    return std::move(fastest_);
  }

  static void SortBySeconds(std::vector<Candidate>& planned) {
    std::stable_sort(planned.begin(), planned.end(),
                     [](const Candidate& a, const Candidate& b) { return a.seconds < b.seconds; });
  }

 private:
  // Candidates of one kind need the same least memory: (micro-batch, stage, recomputation).
  using Kind = std::tuple<int64_t, int, int>;
  struct Listed {
    Candidate candidate;
    Kind kind;
    bool first = false;  // of its kind: with the usual prefetch distance and pages
  };
  // What the plan of the first candidate of a kind has shown.
  struct Known {
    bool fits = false, pages_move = false;
    double seconds = 0;
    int64_t recomputed_blocks = 0;
  };

  // Whether the first candidate of the kind shows that the others are no faster: it does not fit, is near its bound, or
  // is so slow that their differences cannot make up for it.
  bool Settled(const Listed& listed) const {
    // If even AUTO does not fit, neither does a larger micro-batch.
    const auto [micro, stage, choice] = listed.kind;
    if (const auto refused = too_large_.find(stage); refused != too_large_.end() && micro >= refused->second)
      return true;
    const auto it = known_.find(listed.kind);
    if (it == known_.end()) return false;
    const Known& first = it->second;
    if (!first.fits || first.seconds > kFarSlower * best_) return true;
    if (first.seconds <= kNearBound * listed.candidate.bound_seconds) return true;
    return !first.pages_move && listed.candidate.config.memory().page_bytes() != kPages[0];
  }

  absl::Status Plan(Listed& listed) {
    RunPlan run;
    Known known;
    Candidate& candidate = listed.candidate;
    const auto of_kind = known_.find(listed.kind);
    candidate.chose_blocks = of_kind == known_.end() || std::get<2>(listed.kind) != MemoryConfig::AUTO;
    const absl::Status fits = candidate.chose_blocks ? MakeTrainingPlan(candidate.config, facts_, &run)
                                                     : MakeTrainingPlanWith(candidate.config, facts_,
                                                                            of_kind->second.recomputed_blocks, &run);
    if (!fits.ok() && !absl::IsResourceExhausted(fits)) return fits;
    known.fits = fits.ok();
    if (fits.ok()) {
      known.recomputed_blocks = run.recomputed_blocks;
      known.seconds = Predict(run, candidate.config, cluster_, facts_.world_size).time.seconds;
      const std::vector<Step>& update = run.training_plan.segments[kUpdateSegment].steps;
      known.pages_move =
          std::any_of(update.begin(), update.end(), [](const Step& step) { return step.kind == StepKind::kMove; });
      candidate.seconds = known.seconds;
      best_ = std::min(best_, known.seconds);
      fastest_.planned.push_back(candidate);
    } else {
      ++fastest_.refused;
      last_refusal_ = fits;
    }
    if (!listed.first) return absl::OkStatus();
    known_[listed.kind] = known;
    // AUTO has considered the other choices, too.
    const auto& [micro, stage, choice] = listed.kind;
    if (choice != MemoryConfig::AUTO) return absl::OkStatus();
    if (!fits.ok()) {
      const auto [it, is_new] = too_large_.try_emplace(stage, micro);
      it->second = std::min(it->second, micro);
      return absl::OkStatus();
    }
    // AUTO started from the fewest blocks that fit; if NONE fits at all, that is none.
    known_[{micro, stage, MemoryConfig::NONE}] = {};
    if (run.recomputed_blocks == run.task->recomputable_blocks()) known_[{micro, stage, MemoryConfig::BLOCKS}] = {};
    return absl::OkStatus();
  }

  absl::Status ChooseBlocks(Candidate& candidate) {
    RunPlan run;
    RETURN_IF_ERROR(MakeTrainingPlan(candidate.config, facts_, &run));
    candidate.seconds = Predict(run, candidate.config, cluster_, facts_.world_size).time.seconds;
    candidate.chose_blocks = true;
    return absl::OkStatus();
  }

  void List() {
    std::set<int> stages;
    constexpr int kStages = 4;
    for (int stage = 0; stage < kStages; ++stage) {
      TrainConfig config = config_;
      config.mutable_sharding()->set_zero_stage(stage);
      const absl::Status fits = CheckStateBytes(config, facts_);
      if (!fits.ok()) last_refusal_ = fits;
      // One rank shards nothing.
      if (fits.ok() && (stage == 0 || facts_.world_size > 1)) stages.insert(stage);
    }
    const int64_t of_kind = static_cast<int64_t>(kPrefetch.size() * kPages.size());
    for (const int64_t micro : MicroBatches(config_, facts_.world_size)) {
      for (const auto choice : {MemoryConfig::AUTO, MemoryConfig::NONE, MemoryConfig::BLOCKS}) {
        ListWith(micro, choice, stages);
        fastest_.candidates += of_kind * kStages;
        fastest_.pruned += of_kind * (kStages - static_cast<int64_t>(stages.size()));
      }
    }
  }

  void ListWith(int64_t micro, MemoryConfig::Recomputation choice, const std::set<int>& stages) {
    Varied varied = {micro, 0, choice};
    const Graph graph = bound_.GraphOf(varied.In(config_));
    for (const int stage : stages) {
      varied.stage = stage;
      const double bound = bound_.Seconds(varied.In(config_), graph);
      for (const int prefetch : kPrefetch) {
        varied.prefetch = prefetch;
        for (const int64_t page_bytes : kPages) {
          varied.page_bytes = page_bytes;
          const bool first = prefetch == kPrefetch[0] && page_bytes == kPages[0];
          listed_.push_back({{varied.Settings(), varied.In(config_), bound}, {micro, stage, choice}, first});
        }
      }
    }
  }

  static constexpr double kNearBound = 1.01, kFarSlower = 1.05;

  const TrainConfig& config_;
  const Cluster& cluster_;
  const RunFactsForPlan& facts_;
  const StepBound bound_;
  std::vector<Listed> listed_;
  std::map<Kind, Known> known_;
  std::map<int, int64_t> too_large_;  // by stage: the least micro-batch that does not fit
  double best_;
  FastestRun fastest_;
  absl::Status last_refusal_;
};

// The numbers of ranks over which experts may be split.
std::vector<int> ExpertDegrees(const TrainConfig& config, int world_size) {
  std::vector<int> degrees;
  for (int degree = 1; degree <= std::min<int64_t>(world_size, config.model().hunyuan_lm().num_experts()); ++degree) {
    if (CanSplitExperts(config, degree, world_size)) degrees.push_back(degree);
  }
  return degrees;
}

TrainConfig WithDegree(const TrainConfig& config, int degree) {
  TrainConfig other = config;
  other.mutable_sharding()->set_expert_degree(degree);
  return other;
}

// Tries each degree with the usual settings, then all settings of the best degree.
class DegreeSearch {
 public:
  DegreeSearch(const TrainConfig& config, const Cluster& cluster, const RunFactsForPlan& facts,
               const std::vector<int>& degrees)
      : config_(config), cluster_(cluster), facts_(facts), degrees_(degrees), bound_(cluster, facts) {
    usual_.stage = config.sharding().zero_stage();
    usual_.choice = MemoryConfig::BLOCKS;  // the least memory and the quickest planning
    usual_.micro = MicroBatches(config, facts.world_size).back();
  }

  absl::StatusOr<FastestRun> Find() {
    RETURN_IF_ERROR(TryDegrees());
    if (all_.planned.empty() && std::exchange(usual_.stage, 3) != 3) RETURN_IF_ERROR(TryDegrees());
    if (all_.planned.empty()) return refusal_;
    const int degree = DegreeOf(all_.planned.front());
    const auto is_other = [&](const Candidate& candidate) { return DegreeOf(candidate) != degree; };
    const auto next = std::ranges::find_if(all_.planned, is_other);
    const std::optional<Candidate> second = next == all_.planned.end() ? std::nullopt : std::optional(*next);
    RETURN_IF_ERROR(All(degree));
    if (second) RETURN_IF_ERROR(TryWithChoice(*second));
    all_.best = all_.planned.front();
    return std::move(all_);
  }

 private:
  static int DegreeOf(const Candidate& candidate) { return candidate.config.sharding().expert_degree(); }

  Candidate Probe(const Varied& varied, int degree) const {
    Candidate probe{.settings = varied.Settings(), .config = WithDegree(varied.In(config_), degree)};
    probe.settings.push_back(DegreeSetting(degree));
    probe.bound_seconds = bound_.Seconds(probe.config);
    return probe;
  }

  absl::Status TryDegrees() {
    std::vector<Candidate> largest;
    for (const int degree : degrees_) {
      const absl::Status fits = CheckStateBytes(WithDegree(usual_.In(config_), degree), facts_);
      if (fits.ok()) largest.push_back(Probe(usual_, degree));
      if (!fits.ok()) Refused(degree, fits);
    }
    std::ranges::stable_sort(largest, {}, &Candidate::bound_seconds);
    for (const Candidate& probe : largest) RETURN_IF_ERROR(Try(probe));
    return absl::OkStatus();
  }

  // Tries the largest micro-batch of a degree, then smaller ones while they do not fit or are faster. The bounds of
  // smaller ones are no lower.
  absl::Status Try(Candidate probe) {
    Varied varied = usual_;
    std::vector<int64_t> sizes = MicroBatches(config_, facts_.world_size);
    double larger = kNotKnown;
    for (; !sizes.empty(); sizes.pop_back()) {
      if (sizes.back() != usual_.micro) {
        varied.micro = sizes.back();
        probe = Probe(varied, DegreeOf(probe));
      }
      if (probe.bound_seconds >= Best()) break;
      ++all_.candidates;
      ASSIGN_OR_RETURN(const double seconds, Plan(probe));
      if (larger < kNotKnown && seconds >= larger) break;
      larger = seconds;
    }
    return absl::OkStatus();
  }

  // Tries all settings of the second-best degree, if it is the best with recomputation AUTO.
  absl::Status TryWithChoice(const Candidate& second) {
    Varied varied = usual_;
    varied.choice = MemoryConfig::AUTO;
    varied.micro = second.config.batch().micro_batch_sequences();
    const Candidate probe = Probe(varied, DegreeOf(second));
    ++all_.candidates;
    const double best = Best();
    if (probe.bound_seconds >= best) {
      ++all_.pruned;
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(const double seconds, Plan(probe));
    return seconds < best ? All(DegreeOf(second)) : absl::OkStatus();
  }

  absl::Status All(int degree) {
    const TrainConfig config = WithDegree(config_, degree);
    ASSIGN_OR_RETURN(FastestRun found, FastestSearch(config, cluster_, facts_, Best()).Find());
    all_.candidates += found.candidates;
    all_.pruned += found.pruned;
    all_.refused += found.refused;
    for (Candidate& candidate : found.planned) {
      candidate.settings.push_back(DegreeSetting(degree));
      const auto same = [&](const Candidate& probe) { return probe.settings == candidate.settings; };
      all_.candidates -= static_cast<int64_t>(std::erase_if(all_.planned, same));
      all_.planned.push_back(std::move(candidate));
    }
    FastestSearch::SortBySeconds(all_.planned);
    return absl::OkStatus();
  }

  void Refused(int degree, const absl::Status& status) {
    if (degree == config_.sharding().expert_degree()) refusal_ = status;
  }

  double Best() const { return all_.planned.empty() ? kNotKnown : all_.planned.front().seconds; }

  // Returns its step time, or kNotKnown if it does not fit.
  absl::StatusOr<double> Plan(Candidate candidate) {
    RunPlan run;
    const absl::Status fits = MakeTrainingPlan(candidate.config, facts_, &run);
    if (absl::IsResourceExhausted(fits)) {
      ++all_.refused;
      Refused(DegreeOf(candidate), fits);
      return kNotKnown;
    }
    RETURN_IF_ERROR(fits);
    candidate.seconds = Predict(run, candidate.config, cluster_, facts_.world_size).time.seconds;
    all_.planned.push_back(candidate);
    FastestSearch::SortBySeconds(all_.planned);
    return candidate.seconds;
  }

  static std::string DegreeSetting(int degree) { return absl::StrCat("sharding.expert_degree=", degree); }

  const TrainConfig& config_;
  const Cluster& cluster_;
  const RunFactsForPlan& facts_;
  const std::vector<int>& degrees_;
  const StepBound bound_;
  Varied usual_;
  absl::Status refusal_;  // of the configuration's own degree
  FastestRun all_;
};

}  // namespace

absl::StatusOr<FastestRun> FindFastest(const TrainConfig& config, const Cluster& cluster,
                                       const RunFactsForPlan& facts) {
  const std::vector<int> degrees = ExpertDegrees(config, facts.world_size);
  if (degrees.size() < 2) return FastestSearch(config, cluster, facts).Find();
  return DegreeSearch(config, cluster, facts, degrees).Find();
}

}  // namespace angel_ptm
