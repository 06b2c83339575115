// Plans as human-readable text, printed before step 0 and by `angel-ptm plan`.
#ifndef ANGEL_PTM_PLAN_PLAN_TEXT_H_
#define ANGEL_PTM_PLAN_PLAN_TEXT_H_

#include <cstdint>
#include <string>

#include "angel_ptm/base/tier_kind.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

// The share (0 to 1) of a tier's arena that no buffer uses at the step where the tier is fullest: the cost of fixed
// contiguous addresses. 0 for an empty arena.
double PackingLoss(const Plan& plan, TierKind tier);

// Bytes of process memory that the Plan itself takes, outside all arenas. They grow with the number of pages that move.
int64_t PlanBytes(const Plan& plan);

// Host memory that the file tier takes (TierSpec): a buffer, and checksums of the Plan's bytes in the file. 0 if the
// Plan uses no file.
int64_t HostBytesOfFile(const Plan& plan);

// Bytes of state per trained parameter, summed over all ranks and tiers, if every state is sharded.
int64_t BytesPerParameter(const Layout& layout);

// Describes the step for traces and messages: "forward Matmul layers.0.attention.qkv", "all-gather head parameters".
std::string StepName(const Graph& graph, const Segment& segment, const Step& step);

// A table of bytes per tier: each class that occurs at the tier's peak, their sum, the holes, the arena (rounded and
// exact), the host memory of the file tier's checksums and buffer, and the plan itself.
std::string MemoryTable(const Plan& plan);

// For every segment: steps per lane and kind, bytes moved per lane, and collectives with count and bytes. Then the
// programs, the bytes of state per parameter, and each tier's arena, homes and packing loss. About 30 lines.
std::string PlanSummary(const Graph& graph, const Plan& plan);

// One line per step in issue order, for all segments and sweeps: lane, kind, op or unit, addresses, pages, waits.
std::string PlanListing(const Graph& graph, const Plan& plan);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_PLAN_TEXT_H_
