// Output shapes at session load, from what is known of the input shapes.
#pragma once

#include "ort_abi.h"

namespace reuse::ort {

// One per operator. They set what they can tell and never fail: the runtime ignores the status, and an operator with
// wrong attributes is refused with a message when its kernel is created.
void infer_hash(ShapeInferContext* context);
void infer_cluster(ShapeInferContext* context);
void infer_centroid_gemm(ShapeInferContext* context);
void infer_gather(ShapeInferContext* context);
void infer_reuse_conv(ShapeInferContext* context);
void infer_qlinear_reuse_conv(ShapeInferContext* context);
void infer_reuse_conv_integer(ShapeInferContext* context);
void infer_pool(ShapeInferContext* context);
void infer_redundancy(ShapeInferContext* context);
void infer_hold(ShapeInferContext* context);

}  // namespace reuse::ort
