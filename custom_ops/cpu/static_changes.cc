#include "static_changes.h"

#include "simd/kernels.h"

namespace reuse {

StaticChanges::StaticChanges(ReuseState* state, Workspace& workspace, const StaticPlanes& planes,
                             const PixelTiles& pixels, const StaticSteps& steps, int64_t channel_tiles, bool wide)
    : parallel_(workspace.parallel),
      planes_(planes),
      pixels_(pixels),
      channel_tiles_(channel_tiles),
      num_flushes_(steps.num_flushes()),
      offset_bytes_(wide ? sizeof(uint32_t) : sizeof(uint16_t)),
      row_words_((planes.width + simd::kMarkedPlaces - 1) / simd::kMarkedPlaces),
      changed_(workspace),
      parts_per_tile_((pixels.most_columns() + kPartColumns - 1) / kPartColumns),
      hold_(state, shape()),
      last_(hold_.get()) {}

LastRunShape StaticChanges::shape() const {
  const ConvGeometry& g = planes_.blocking.geometry;
  const int64_t offsets = planes_.count() * planes_.size() * offset_bytes_;
  const int64_t words = g.attributes.group * channel_tiles_ * num_flushes_ * g.rows() * simd::kStaticChannels;
  return {g.batch, g.in_h, g.in_w, offsets, offsets, words * static_cast<int64_t>(sizeof(uint16_t))};
}

void StaticChanges::compare() {
  sums_of_.assign(static_cast<size_t>(pixels_.count() * parts_per_tile_), KeptSums::kAreMadeAnew);
  if (last_->empty) return;
  const int64_t height = planes_.height;
  changed_.resize(static_cast<size_t>((planes_.blocking.num_blocks() + 1) * planes_.batch * height * row_words_));
  parallel_.run(planes_.batch * height, [&](int64_t task) { mark_row(task / height, task % height); });
  parallel_.run(pixels_.count(), [&](int64_t index) {
    const PixelTile tile = pixels_[index];
    for (int64_t part = 0; part * kPartColumns < tile.columns; ++part) {
      sums_of_[static_cast<size_t>(index * parts_per_tile_ + part)] = sums_of(part_of(tile, part, part + 1));
    }
  });
}

void StaticChanges::mark_row(int64_t image, int64_t row) {
  const int64_t bytes = row * planes_.width * offset_bytes_, blocks = planes_.blocking.num_blocks();
  const bool wide = offset_bytes_ > static_cast<int64_t>(sizeof(uint16_t));
  uint64_t* const any = changed_.data() + first_mark(blocks, image) + row * row_words_;
  std::fill_n(any, row_words_, uint64_t{0});
  for (int64_t block = 0; block < blocks; ++block) {
    uint64_t* const own = changed_.data() + first_mark(block, image) + row * row_words_;
    const int64_t start = planes_.start(block, image) * offset_bytes_ + bytes;
    simd::kernels().mark_changes(last_->input.data() + start, last_->next.data() + start, wide, planes_.width, own);
    for (int64_t i = 0; i < row_words_; ++i) any[i] |= own[i];
  }
}

KeptSums StaticChanges::sums_of(const PixelTile& part) const {
  const simd::StaticPixels pixels = planes_.pixels(part);
  const int64_t top = pixels.first / pixels.width, left = pixels.first % pixels.width;
  const int64_t rows = simd::read_rows(pixels), columns = simd::read_columns(pixels);
  const int64_t blocks = planes_.blocking.num_blocks();
  const auto changes = [&](int64_t block) {
    int64_t count = 0;
    const uint64_t* row = marks(block, part.image) + top * row_words_;
    for (int64_t r = 0; r < rows; ++r, row += row_words_) count += simd::count_marked(row, left, left + columns);
    return count;
  };
  if (changes(blocks) == 0) return KeptSums::kStay;
  const double most = kUpdatedShare * static_cast<double>(blocks * rows * columns);
  double count = 0.0;
  for (int64_t block = 0; block < blocks; ++block) {
    count += static_cast<double>(changes(block));
    if (count > most) return KeptSums::kAreMadeAnew;
  }
  return KeptSums::kAreUpdated;
}

uint16_t* StaticChanges::words(const StaticStep& step, int64_t flush, const PixelTile& tile) const {
  const int64_t index = (step.group * channel_tiles_ + step.tile) * num_flushes_ + flush;
  auto* const all = reinterpret_cast<uint16_t*>(last_->result.data());
  return all + (index * planes_.blocking.geometry.rows() + pixels_.first_pixel(tile)) * simd::kStaticChannels;
}

void StaticChanges::leave(RunStatistics& statistics) {
  const bool was_useful = last_->empty || count(statistics) >= kLeastGain;
  last_->input.swap(last_->next);
  hold_.leave(was_useful);
}

// Counts what has become of the sums of the last run, which there were. Returns how much they have gained.
double StaticChanges::count(RunStatistics& statistics) const {
  statistics.anew = 0;
  for (int64_t row = 0; row < planes_.count() * planes_.height; ++row) {
    const uint64_t* own = changed_.data() + row * row_words_;
    statistics.changed += simd::count_marked(own, planes_.left, planes_.left + planes_.inside_w);
  }
  double gain = 0.0;
  for (int64_t index = 0; index < pixels_.count(); ++index) {
    for_parts(index, [&](const PixelTile& part, KeptSums how) {
      const int64_t pixels = part.rows * part.columns;
      if (how == KeptSums::kAreMadeAnew) statistics.recomputed += pixels;
      if (how != KeptSums::kAreMadeAnew) gain += static_cast<double>(pixels) * (how == KeptSums::kStay ? 1.0 : 0.5);
    });
  }
  return gain / static_cast<double>(planes_.blocking.geometry.rows());
}

}  // namespace reuse
