#include "last_run.h"

#include <utility>

#include "large_memory.h"

namespace reuse {
namespace {

LargeMemory memory;  // that of a state lives as long as who asks for its counts

}  // namespace

bool LastRunShape::operator==(const LastRunShape& other) const {
  return batch == other.batch && height == other.height && width == other.width && channels == other.channels;
}

LastRun::LastRun(Allocator& allocator, const LastRunShape& of)
    : shape(of),
      input(allocator, static_cast<size_t>(of.input_bytes)),
      next(allocator, static_cast<size_t>(of.next_bytes)),
      result(allocator, static_cast<size_t>(of.result_bytes)) {}

LastRunHold::LastRunHold(ReuseState* state, const LastRunShape& shape) : state_(state) {
  if (state_ == nullptr) return;
  {
    const std::lock_guard<std::mutex> lock(state_->mutex_);
    if (state_->last_is_held_ || state_->without_last_.covers_run()) {
      state_ = nullptr;
      return;
    }
    state_->last_is_held_ = true;
    own_ = std::move(state_->last_);
    resets_ = state_->resets_;
  }
  if (own_ != nullptr && own_->shape == shape) return;
  own_ = nullptr;  // before there is another one
  if (shape.bytes() > state_->memory_) return;
  try {
    own_ = std::make_unique<LastRun>(memory, shape);
  } catch (...) {
    give_back();
    throw;
  }
}

LastRunHold::~LastRunHold() {
  own_ = nullptr;
  give_back();
}

void LastRunHold::leave(bool was_useful) {
  if (state_ == nullptr) return;
  const std::lock_guard<std::mutex> lock(state_->mutex_);
  if (resets_ == state_->resets_) {
    // Its memory stays where its contents will be too old: the run after the pause needs it.
    const bool found = !own_->empty;
    own_->empty = found && state_->without_last_.found(was_useful);
    state_->last_ = std::move(own_);
  }
  state_->last_is_held_ = false;
  state_ = nullptr;
}

void LastRunHold::give_back() {
  if (state_ == nullptr) return;
  const std::lock_guard<std::mutex> lock(state_->mutex_);
  state_->last_is_held_ = false;
  state_ = nullptr;
}

}  // namespace reuse
