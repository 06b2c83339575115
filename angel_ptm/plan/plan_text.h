// Plans as text for people: printed before step 0 and by `angel-ptm plan`.
#ifndef ANGEL_PTM_PLAN_PLAN_TEXT_H_
#define ANGEL_PTM_PLAN_PLAN_TEXT_H_

#include <cstdint>
#include <string>

#include "angel_ptm/base/tier_kind.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

// Share of a tier's arena that no buffer uses at the step where it is fullest, 0 to 1: what fixed contiguous addresses
// cost. 0 for an empty arena.
double PackingLoss(const Plan& plan, TierKind tier);

// Bytes that the Plan itself takes in the process's memory, outside of all arenas: it grows with the pages that move.
int64_t PlanBytes(const Plan& plan);

// Host memory that the file tier takes (TierSpec): checksums of what the Plan has there, and a buffer; 0 without one.
int64_t HostBytesOfFile(const Plan& plan);

// Bytes of state that a trained parameter takes, over all ranks and tiers where every state is sharded.
int64_t BytesPerParameter(const Layout& layout);

// What the step does, for traces and messages: "forward Matmul layers.0.attention.qkv", "all-gather head parameters".
std::string StepName(const Graph& graph, const Segment& segment, const Step& step);

// Bytes per tier by class at the tier's peak, their sum, the holes and the arena (rounded and exact), and the plan
// itself. One line per class that occurs.
std::string MemoryTable(const Plan& plan);

// Both segments: steps per lane and kind, bytes moved per lane, collectives with count and bytes; then peaks and
// packing loss. About 30 lines.
std::string PlanSummary(const Graph& graph, const Plan& plan);

// One line per step in issue order: lane, kind, op or unit, addresses, pages, waits.
std::string PlanListing(const Graph& graph, const Plan& plan);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_PLAN_TEXT_H_
