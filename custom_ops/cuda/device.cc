#include <algorithm>
#include <cstring>
#include <exception>
#include <utility>

#include "reuse/cuda_device.h"

namespace reuse::cuda {
namespace {

// Enough for many counts at once; longer reads come in pieces.
constexpr size_t kStagingBytes = size_t{64} << 10;

// Runs what must not throw where a destructor runs, and where nothing better can be done.
template <typename Body>
void quietly(const Body& body) noexcept {
  try {
    body();
  } catch (const std::exception&) {
    return;
  }
}

}  // namespace

DeviceScope::RelaxedCaptures::RelaxedCaptures(DeviceApi& api)
    : api_(api), before_(api.exchange_capture_mode(CaptureMode::kRelaxed)) {}

DeviceScope::RelaxedCaptures::~RelaxedCaptures() {
  quietly([&] { api_.exchange_capture_mode(before_); });
}

DeviceScope::DeviceScope(DeviceApi& api, int device)
    : api_(api), captures_(api), device_(device), before_(api.current_device()) {
  if (before_ != device_) api_.set_device(device_);
}

DeviceScope::~DeviceScope() {
  if (before_ != device_) quietly([&] { api_.set_device(before_); });
}

DeviceAllocator::DeviceAllocator(DeviceApi& api, int device, std::shared_ptr<Allocator> own)
    : api_(api), device_(device), own_(std::move(own)) {}

void* DeviceAllocator::allocate(size_t bytes) {
  const DeviceScope scope(api_, device_);
  return own_->allocate(bytes);
}

void DeviceAllocator::release(void* memory, size_t bytes) noexcept {
  try {
    const DeviceScope scope(api_, device_);
    own_->release(memory, bytes);
  } catch (const std::exception&) {
    own_->release(memory, bytes);  // the device is lost, but its allocator keeps books
  }
}

DeviceMemory::DeviceMemory(std::shared_ptr<Allocator> allocator, size_t bytes)
    : allocator_(std::move(allocator)), bytes_(bytes), data_(allocator_->allocate(bytes)) {}

DeviceMemory::~DeviceMemory() { allocator_->release(data_, bytes_); }

CopyStream::CopyStream(DeviceApi& api, int device) : api_(api), device_(device) {
  const DeviceScope scope(api_, device_);
  stream_ = api_.create_stream();
  try {
    staging_ = api_.allocate_host(kStagingBytes);
  } catch (const std::exception&) {
    api_.destroy_stream(stream_);
    throw;
  }
}

CopyStream::~CopyStream() {
  quietly([&] {
    const DeviceScope scope(api_, device_);
    quietly([&] { api_.wait(stream_); });  // a read that failed may have left its copy behind
    api_.release_host(staging_);
    api_.destroy_stream(stream_);
  });
}

void CopyStream::wait() {
  const DeviceScope scope(api_, device_);
  api_.wait(stream_);
}

void CopyStream::copy(void* to, const void* from, size_t bytes) {
  const DeviceScope scope(api_, device_);
  api_.copy(to, from, bytes, stream_);
  api_.wait(stream_);
}

void CopyStream::clear(void* memory, size_t bytes) {
  const DeviceScope scope(api_, device_);
  api_.clear(memory, bytes, stream_);
  api_.wait(stream_);
}

void CopyStream::read(void* to, const void* from, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const DeviceScope scope(api_, device_);
  for (size_t done = 0; done < bytes; done += kStagingBytes) {
    const size_t piece = std::min(kStagingBytes, bytes - done);
    api_.copy(staging_, static_cast<const char*>(from) + done, piece, stream_);
    api_.wait(stream_);
    std::memcpy(static_cast<char*>(to) + done, staging_, piece);
  }
}

std::shared_ptr<CopyStream> CopyStreams::get(DeviceApi& api, int device) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::shared_ptr<CopyStream> stream = streams_[device].lock();
  if (stream == nullptr) streams_[device] = stream = std::make_shared<CopyStream>(api, device);
  return stream;
}

}  // namespace reuse::cuda
