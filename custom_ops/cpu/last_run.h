// What a run of an incremental node or a Hold leaves to the next one (docs/operators.md, Sums that are kept), and who
// has it.
#pragma once

#include <cstdint>
#include <memory>

#include "reuse/geometry.h"
#include "reuse/runtime.h"
#include "reuse/state.h"

namespace reuse {

// Sizes of all that is kept.
struct LastRunShape {
  int64_t batch, height, width;  // of the input
  int64_t input_bytes;           // of what tells inputs apart
  int64_t next_bytes;            // of the same, where a run writes it before it compares
  int64_t result_bytes;
  int64_t channels = 0;  // of the input, where they may be others in another run

  int64_t bytes() const { return input_bytes + next_bytes + result_bytes; }
  bool operator==(const LastRunShape& other) const;
};

struct LastRun {
  LastRun(Allocator& allocator, const LastRunShape& shape);

  LastRunShape shape;
  bool empty = true;       // nothing has been written yet
  Buffer<uint8_t> input;   // of a static node: offsets of the rows that are in the sums; of a quantised one: x; of a
                           // Hold: the pixels that have differed in all runs that it has waited for
  Buffer<uint8_t> next;    // memory for that of the next run
  Buffer<uint8_t> result;  // of a static node: sums as simd::StaticWords has them, by what is summed together and
                           // pixel; of a quantised one: y; of a Hold: what it holds
  int64_t waited = 0;      // of a Hold: runs since it last took what lasts
};

// A run's hold on what the last one left.
class LastRunHold {
 public:
  // Takes it, or makes room for what this run will leave. There is none where another run has it, where it would take
  // more than the state may, and for some runs after one to which it was of no use.
  LastRunHold(ReuseState* state, const LastRunShape& shape);
  // Unless the run has left it to the next one, it is gone: who knows what is in it.
  ~LastRunHold();
  LastRunHold(const LastRunHold&) = delete;
  LastRunHold& operator=(const LastRunHold&) = delete;

  LastRun* get() const { return own_.get(); }
  // The run has succeeded, and has written all of it. Whether what it found there was of use, or there was nothing.
  void leave(bool was_useful);

 private:
  void give_back();

  ReuseState* state_;  // null once it is given back
  int64_t resets_ = 0;
  std::unique_ptr<LastRun> own_;
};

}  // namespace reuse
