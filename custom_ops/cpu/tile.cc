#include "tile.h"

#include <algorithm>
#include <cstring>

namespace reuse {
namespace {

// Pixels of one image are contiguous in every channel, so a tile is one copy per channel and image.
void load_channel_tile(const Blocking& blocking, const float* x, int64_t block, int64_t first, int64_t count,
                       float* values) {
  const ConvGeometry& g = blocking.geometry;
  const int64_t pixels = g.in_pixels();
  const int64_t channel = blocking.group_of(block) * g.group_in_channels() + blocking.block_start(block);
  const int64_t length = blocking.block_length(block);
  for (int64_t done = 0; done < count;) {
    const int64_t image = (first + done) / pixels, pixel = (first + done) % pixels;
    const int64_t run = std::min(count - done, pixels - pixel);
    const float* source = x + (image * g.in_channels + channel) * pixels + pixel;
    for (int64_t l = 0; l < length; ++l) {
      std::memcpy(values + l * kTileVectors + done, source + l * pixels, static_cast<size_t>(run) * sizeof(float));
    }
    done += run;
  }
}

// Copies one tap of `count` neighbouring windows: input columns column, column + stride, ..., zeros outside 0..width-1.
void copy_windows(const float* row, int64_t width, int64_t column, int64_t stride, int64_t count, float* out) {
  for (int64_t p = 0; p < count; ++p, column += stride) {
    out[p] = column >= 0 && column < width ? row[column] : 0.0f;
  }
}

// Windows of one output row are neighbours, so a tile is filled per column of the unfolded input and output row.
void load_patch_tile(const Blocking& blocking, const float* x, int64_t block, int64_t first, int64_t count,
                     float* values) {
  const ConvGeometry& g = blocking.geometry;
  const ConvAttributes& a = g.attributes;
  const int64_t channels = g.group_in_channels();
  const int64_t first_channel = blocking.group_of(block) * channels;
  const int64_t start = blocking.block_start(block), length = blocking.block_length(block);
  for (int64_t done = 0; done < count;) {
    const int64_t image = (first + done) / g.out_pixels(), pixel = (first + done) % g.out_pixels();
    const int64_t out_row = pixel / g.out_w, out_column = pixel % g.out_w;
    const int64_t run = std::min(count - done, g.out_w - out_column);
    for (int64_t l = 0; l < length; ++l) {
      const int64_t tap = (start + l) / channels, channel = (start + l) % channels;
      const int64_t in_row = out_row * a.stride_h - a.pad_top + tap / a.kernel_w * a.dilation_h;
      const int64_t in_column = out_column * a.stride_w - a.pad_left + tap % a.kernel_w * a.dilation_w;
      float* out = values + l * kTileVectors + done;
      if (in_row < 0 || in_row >= g.in_h) {
        std::fill(out, out + run, 0.0f);
      } else {
        const float* plane = x + (image * g.in_channels + first_channel + channel) * g.in_pixels();
        copy_windows(plane + in_row * g.in_w, g.in_w, in_column, a.stride_w, run, out);
      }
    }
    done += run;
  }
}

}  // namespace

Tile load_tile(const Blocking& blocking, const float* x, int64_t block, int64_t first, int64_t count, float* values) {
  if (blocking.layout() == Layout::kPatch) {
    load_patch_tile(blocking, x, block, first, count, values);
  } else {
    load_channel_tile(blocking, x, block, first, count, values);
  }
  return Tile{values, kTileVectors, blocking.block_length(block), count};
}

}  // namespace reuse
