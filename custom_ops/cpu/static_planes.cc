#include "static_planes.h"

#include "gather.h"

namespace reuse {

StaticPlanes::StaticPlanes(const Blocking& of) : blocking(of), batch(of.geometry.batch) {
  const ConvGeometry& g = of.geometry;
  const simd::TapRow first = tap_row(of, 0, 0, 0, 1), last = tap_row(of, 0, g.out_h - 1, g.out_w - 1, 1);
  top = -first.top;
  left = -first.left;
  inside_h = first.in_h;
  inside_w = first.in_w;
  height = top + std::max(inside_h, last.top + (last.kernel_h - 1) * last.dilation_h + 1);
  width = left + std::max(inside_w, last.left + (last.kernel_w - 1) * last.dilation_w + 1);
}

simd::StaticPixels StaticPlanes::pixels(const PixelTile& tile) const {
  const simd::TapRow taps = tap_row(blocking, 0, tile.row, tile.column, tile.columns);
  return {(taps.top + top) * width + taps.left + left,
          width,
          taps.kernel_h,
          taps.kernel_w,
          taps.dilation_h,
          taps.dilation_w,
          tap_row(blocking, 0, tile.row + 1, tile.column, tile.columns).top - taps.top,
          taps.stride_w,
          tile.rows,
          tile.columns};
}

}  // namespace reuse
