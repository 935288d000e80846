// The C interface for training: what it refuses, and that its threads do their work once.
#include "reuse/training_capi.h"

#include <atomic>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "../capi/workers.h"
#include "test.h"

namespace reuse::testing {
namespace {

reuse_convolution small_convolution() {
  reuse_convolution c{};
  c.batch = 2;
  c.in_channels = 4;
  c.in_height = c.in_width = 5;
  c.out_channels = 3;
  c.kernel[0] = c.kernel[1] = 3;
  c.strides[0] = c.strides[1] = c.dilations[0] = c.dilations[1] = 1;
  for (int64_t& pad : c.pads) pad = 1;
  c.group = 1;
  c.sub_vector_length = 4;
  return c;
}

reuse_hashing exact_hashing() {
  reuse_hashing h{};
  h.family = "exact";
  h.num_hashes = 1;
  h.capacity = 1.0f;
  h.keep_codes = 1;
  h.projections_size = h.thresholds_size = h.coordinates_size = h.widths_size = -1;
  return h;
}

TEST(the_c_interface_computes_a_step) {
  const reuse_convolution convolution = small_convolution();
  const reuse_hashing hashing = exact_hashing();
  std::vector<float> x(2 * 4 * 25), w(3 * 4 * 9, 0.5f), y(2 * 3 * 25), dw(w.size()), dx(x.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 25 % 2);
  reuse_clusters* clusters = reuse_cluster(&convolution, &hashing, x.data(), 2);
  EXPECT(clusters != nullptr, << reuse_last_error());
  float* centroids = nullptr;
  int32_t* members = nullptr;
  EXPECT(reuse_clusters_block(clusters, 0, &centroids, &members) == 2);
  EXPECT(members[0] == 26 && members[1] == 24 && centroids[0] == 0.0f && centroids[4] == 1.0f);
  EXPECT(reuse_clusters_ids(clusters)[0] == 0 && reuse_clusters_ids(clusters)[1] == 1);
  EXPECT(reuse_clusters_codes(clusters, 0)[0] != reuse_clusters_codes(clusters, 0)[1]);
  EXPECT(reuse_clusters_block(clusters, 1, &centroids, &members) == -1);
  EXPECT(reuse_clusters_codes(clusters, 1) == nullptr);
  EXPECT(reuse_forward(clusters, w.data(), nullptr, 0, y.data(), 2) == 0);
  EXPECT(y[6] == 0.5f * 4 * 4, << y[6]);  // the four direct neighbours of pixel (1, 1), in four channels
  EXPECT(reuse_backward(clusters, w.data(), y.data(), dw.data(), dx.data(), 2) == 0);
  EXPECT(std::isfinite(dw[0]) && std::isfinite(dx[0]) && dx[0] == dx[2]);
  reuse_clusters_free(clusters);
}

void expect_refusal(const reuse_convolution& convolution, const reuse_hashing& hashing, const std::string& part) {
  const std::vector<float> x(2 * 4 * 25);
  EXPECT(reuse_cluster(&convolution, &hashing, x.data(), 1) == nullptr);
  EXPECT(std::string(reuse_last_error()).find(part) != std::string::npos, << reuse_last_error());
}

TEST(the_c_interface_refuses_what_makes_no_sense) {
  reuse_convolution convolution = small_convolution();
  reuse_hashing hashing = exact_hashing();
  convolution.sub_vector_length = 5;
  expect_refusal(convolution, hashing, "sub_vector_length");
  convolution = small_convolution();
  hashing.family = "no such";
  expect_refusal(convolution, hashing, "no such");
  hashing = exact_hashing();
  hashing.capacity = 2.0f;
  expect_refusal(convolution, hashing, "capacity");
  hashing = exact_hashing();
  hashing.family = "sign";
  expect_refusal(convolution, hashing, "projections");
  hashing.family = "learned";
  const float threshold = 0.0f;
  const int32_t coordinate = 4;
  hashing.thresholds = &threshold;
  hashing.coordinates = &coordinate;
  hashing.thresholds_size = hashing.coordinates_size = 1;
  expect_refusal(convolution, hashing, "coordinates hold 4");
}

TEST(workers_do_everything_once) {
  Workers workers(4);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::atomic<int>> done(100);
    workers.run(100, [&](int64_t i) { ++done[static_cast<size_t>(i)]; });
    for (const std::atomic<int>& times : done) EXPECT(times == 1);
  }
}

TEST(workers_pass_on_a_failure_and_go_on) {
  Workers workers(3);
  expect_throw<std::runtime_error>("piece 7", [&] {
    workers.run(20, [](int64_t i) {
      if (i == 7) throw std::runtime_error("piece 7");
    });
  });
  std::atomic<int> done{0};
  workers.run(20, [&](int64_t) { ++done; });
  EXPECT(done == 20);
}

}  // namespace
}  // namespace reuse::testing
