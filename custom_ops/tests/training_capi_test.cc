// The C interface for training, on the CPU's kernels and on CUDA's: what it computes and refuses, and that its threads
// do their work once.
#include "reuse/training_capi.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "reuse/cuda_training_capi.h"
#include "reuse/workers.h"
#include "support.h"
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
  h.projections_size = h.thresholds_size = h.coordinates_size = -1;
  return h;
}

// Memory of exactly as many bytes as a function asks for.
struct Bytes {
  explicit Bytes(int64_t size) : memory(static_cast<size_t>(size), '\xFF') { EXPECT(size >= 0, << reuse_last_error()); }
  std::vector<char> memory;
};

TEST(the_c_interface_computes_a_step) {
  const reuse_convolution convolution = small_convolution();
  const reuse_hashing hashing = exact_hashing();
  std::vector<float> x(2 * 4 * 25), w(3 * 4 * 9, 0.5f);
  std::vector<float> y = poisoned<float>(2 * 3 * 25), dw = poisoned<float>(3 * 4 * 9), dx = poisoned<float>(2 * 4 * 25);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 25 % 2);
  reuse_plan* plan = reuse_plan_create(&convolution, &hashing);
  EXPECT(plan != nullptr, << reuse_last_error());
  reuse_clusters* clusters = reuse_cluster(plan, 2, 5, 5, x.data(), 2);
  EXPECT(clusters != nullptr, << reuse_last_error());
  reuse_plan_destroy(plan);  // what has come of it stays
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
  EXPECT(reuse_plan_create(&convolution, &hashing) == nullptr);
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

TEST(static_clusters_are_those_that_the_c_interface_is_given) {
  const reuse_convolution convolution = small_convolution();
  reuse_hashing hashing = exact_hashing();
  const std::vector<float> thresholds{0.5f}, centroids{1, 2, 3, 4, 5, 6, 7, 8};
  const std::vector<int32_t> coordinates{0};
  hashing.family = "learned";
  hashing.thresholds = thresholds.data();
  hashing.coordinates = coordinates.data();
  hashing.thresholds_size = hashing.coordinates_size = 1;
  hashing.scope = 3;
  expect_refusal(convolution, hashing, "scope is 3");
  hashing.scope = 2;
  hashing.centroids_size = -1;
  expect_refusal(convolution, hashing, "centroids have -1 elements, must have 8");
  hashing.centroids_size = 8;
  expect_refusal(convolution, hashing, "centroids are null");
  hashing.centroids = centroids.data();
  expect_refusal(convolution, hashing, "do not keep them");
  hashing.keep_codes = 0;
  hashing.scope = 0;
  expect_refusal(convolution, hashing, "centroids have 8 elements, must have 0");
  hashing.scope = 2;
  EXPECT(reuse_cuda_number_bytes(&convolution, &hashing) == -1);
  reuse_plan* plan = reuse_plan_create(&convolution, &hashing);
  EXPECT(plan != nullptr, << reuse_last_error());
  std::vector<float> x(2 * 4 * 25, 0.0f);
  x[1] = 1.0f;
  x[2] = std::numeric_limits<float>::infinity();
  reuse_clusters* clusters = reuse_cluster(plan, 2, 5, 5, x.data(), 2);
  EXPECT(clusters != nullptr, << reuse_last_error());
  float* found = nullptr;
  int32_t* members = nullptr;
  EXPECT(reuse_clusters_block(clusters, 0, &found, &members) == 3);
  EXPECT(std::equal(centroids.begin(), centroids.end(), found) && std::isinf(found[8]));
  EXPECT(members[0] == 48 && members[1] == 1 && members[2] == 1);
  const int32_t* ids = reuse_clusters_ids(clusters);
  EXPECT(ids[0] == 0 && ids[1] == 1 && ids[2] == 2 && ids[3] == 0);
  reuse_clusters_free(clusters);
  reuse_plan_destroy(plan);
}

TEST(the_c_interface_refuses_arrays_that_are_not_there) {
  const reuse_convolution convolution = small_convolution();
  reuse_hashing hashing = exact_hashing();
  hashing.family = nullptr;
  expect_refusal(convolution, hashing, "family is null");
  const std::vector<float> values(16, 0.0f);
  const std::vector<int32_t> coordinates(3, 0);
  hashing.family = "learned";
  hashing.num_hashes = 2;
  hashing.projections_size = 16;
  hashing.thresholds_size = hashing.coordinates_size = 3;
  expect_refusal(convolution, hashing, "projections are null, but said to have 16 elements");
  hashing.projections = values.data();
  expect_refusal(convolution, hashing, "thresholds are null");
  hashing.thresholds = values.data();
  expect_refusal(convolution, hashing, "coordinates are null");
  EXPECT(reuse_cuda_number_bytes(&convolution, &hashing) == -1);
  hashing.coordinates = coordinates.data();
  EXPECT(reuse_cuda_number_bytes(&convolution, &hashing) > 0, << reuse_last_error());
}

// CUDA's coordinates are in a device's memory, where nobody checks them: as clamped ones they give the same codes.
TEST(cuda_coordinates_outside_of_a_vector_lead_to_its_ends) {
  const reuse_convolution convolution = small_convolution();
  reuse_hashing hashing = exact_hashing();
  const reuse_cuda_execution execution{nullptr, 0};
  std::vector<float> x(2 * 4 * 25), thresholds{0.5f, 0.25f, -0.25f};
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7) / 4.0f - 0.75f;
  hashing.family = "learned";
  hashing.num_hashes = 2;
  hashing.thresholds = thresholds.data();
  hashing.thresholds_size = hashing.coordinates_size = 3;
  std::vector<std::vector<int64_t>> found;
  for (const std::vector<int32_t>& coordinates :
       {std::vector<int32_t>{3, 0, 3}, std::vector<int32_t>{1 << 30, -(1 << 30), 4}}) {
    hashing.coordinates = coordinates.data();
    found.push_back(poisoned<int64_t>(50));
    std::vector<int32_t> ids = poisoned<int32_t>(50), counts = poisoned<int32_t>(1);
    Bytes numbering(reuse_cuda_number_bytes(&convolution, &hashing));
    EXPECT(reuse_cuda_number(&convolution, &hashing, &execution, x.data(), found.back().data(), ids.data(),
                             counts.data(), numbering.memory.data()) == 0);
    EXPECT(counts[0] > 1);
  }
  EXPECT(found[0] == found[1]);
}

TEST(the_cuda_functions_compute_the_same_step) {
  const reuse_convolution convolution = small_convolution();
  const reuse_hashing hashing = exact_hashing();
  const reuse_cuda_execution execution{nullptr, 0};
  std::vector<float> x(2 * 4 * 25), w(3 * 4 * 9, 0.5f), bias(3, 0.25f);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 25 % 2);
  std::vector<int64_t> codes = poisoned<int64_t>(50);
  std::vector<int32_t> ids = poisoned<int32_t>(50), counts = poisoned<int32_t>(1), order, starts{0, 26, 50, 50};
  Bytes numbering(reuse_cuda_number_bytes(&convolution, &hashing));
  EXPECT(reuse_cuda_number(&convolution, &hashing, &execution, x.data(), codes.data(), ids.data(), counts.data(),
                           numbering.memory.data()) == 0);
  EXPECT(counts[0] == 2 && ids[0] == 0 && ids[1] == 1 && codes[0] != codes[1]);
  const int64_t rows = 3;  // one more than there are clusters
  std::vector<float> centroids = poisoned<float>(rows * 4);
  Bytes sums(reuse_cuda_average_bytes(&convolution, &hashing, rows));
  EXPECT(reuse_cuda_average(&convolution, &hashing, &execution, x.data(), ids.data(), counts.data(),
                            numbering.memory.data(), rows, centroids.data(), sums.memory.data()) == 0);
  EXPECT(centroids[0] == 0.0f && centroids[4] == 1.0f);
  for (const int32_t cluster : {0, 1}) {
    for (int32_t v = 0; v < 50; ++v) {
      if (ids[v] == cluster) order.push_back(v);
    }
  }
  const reuse_cuda_clusters clusters{rows, ids.data(), counts.data(), centroids.data(), order.data(), starts.data()};
  std::vector<float> y = poisoned<float>(2 * 3 * 25), dw = poisoned<float>(3 * 4 * 9), dx = poisoned<float>(2 * 4 * 25);
  std::vector<float> cpu_y = y, cpu_dw = dw, cpu_dx = dx;
  Bytes forward(reuse_cuda_forward_bytes(&convolution, rows)), backward(reuse_cuda_backward_bytes(&convolution, rows));
  EXPECT(reuse_cuda_forward(&convolution, &clusters, &execution, w.data(), bias.data(), y.data(),
                            forward.memory.data()) == 0);
  EXPECT(reuse_cuda_backward(&convolution, &clusters, &execution, w.data(), y.data(), dw.data(), dx.data(),
                             backward.memory.data()) == 0);
  reuse_plan* plan = reuse_plan_create(&convolution, &hashing);
  reuse_clusters* cpu = reuse_cluster(plan, 2, 5, 5, x.data(), 1);
  EXPECT(reuse_forward(cpu, w.data(), bias.data(), 0, cpu_y.data(), 1) == 0);
  EXPECT(reuse_backward(cpu, w.data(), cpu_y.data(), cpu_dw.data(), cpu_dx.data(), 1) == 0);
  reuse_clusters_free(cpu);
  reuse_plan_destroy(plan);
  const auto largest_difference = [](const std::vector<float>& a, const std::vector<float>& b) {
    float most = 0.0f;
    for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::fabs(a[i] - b[i]));
    return most;
  };
  EXPECT(largest_difference(y, cpu_y) < 1e-5f && largest_difference(dw, cpu_dw) < 1e-3f, << dw[0] << ", " << cpu_dw[0]);
  EXPECT(largest_difference(dx, cpu_dx) < 1e-3f, << dx[0] << ", " << cpu_dx[0]);
}

TEST(the_cuda_functions_refuse_what_makes_no_sense) {
  reuse_convolution convolution = small_convolution();
  reuse_hashing hashing = exact_hashing();
  hashing.family = "sign";
  EXPECT(reuse_cuda_number_bytes(&convolution, &hashing) == -1);
  EXPECT(std::string(reuse_last_error()).find("projections") != std::string::npos, << reuse_last_error());
  EXPECT(reuse_cuda_forward_bytes(&convolution, -1) == -1);
  EXPECT(std::string(reuse_last_error()).find("rows is -1") != std::string::npos, << reuse_last_error());
  EXPECT(reuse_cuda_forward_bytes(&convolution, int64_t{1} << 31) == -1);
  EXPECT(std::string(reuse_last_error()).find("the number of clusters") != std::string::npos, << reuse_last_error());
  convolution.in_height = convolution.in_width = int64_t{1} << 15;
  convolution.batch = 3;
  EXPECT(reuse_cuda_backward_bytes(&convolution, 1) == -1);
  EXPECT(std::string(reuse_last_error()).find("smaller batches") != std::string::npos, << reuse_last_error());
}

// The clusters of an input as one list of numbers.
std::vector<float> clusters_of(const reuse_plan* plan, int64_t batch, int64_t size, int64_t threads) {
  std::vector<float> x(static_cast<size_t>(batch * 4 * size * size));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7);
  reuse_clusters* clusters = reuse_cluster(plan, batch, size, size, x.data(), threads);
  EXPECT(clusters != nullptr, << reuse_last_error());
  float* centroids = nullptr;
  int32_t* members = nullptr;
  const int64_t count = reuse_clusters_block(clusters, 0, &centroids, &members);
  std::vector<float> result(centroids, centroids + count * 4);
  const int32_t* ids = reuse_clusters_ids(clusters);
  result.insert(result.end(), ids, ids + batch * size * size);
  reuse_clusters_free(clusters);
  return result;
}

TEST(a_plan_serves_inputs_of_any_size_from_many_threads_at_once) {
  const reuse_convolution convolution = small_convolution();
  const reuse_hashing hashing = exact_hashing();
  reuse_plan* plan = reuse_plan_create(&convolution, &hashing);
  std::vector<std::vector<float>> expected;
  for (int64_t size = 3; size < 11; ++size) expected.push_back(clusters_of(plan, size % 3 + 1, size, 1));
  std::atomic<int> equal{0};
  std::vector<std::thread> callers;
  for (int64_t size = 3; size < 11; ++size) {
    callers.emplace_back([&, size] {
      for (int round = 0; round < 20; ++round) {
        if (clusters_of(plan, size % 3 + 1, size, round % 4 + 1) == expected[static_cast<size_t>(size - 3)]) ++equal;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT(equal == 8 * 20, << equal.load());
  EXPECT(reuse_cluster(plan, -1, 5, 5, nullptr, 1) == nullptr);
  EXPECT(std::string(reuse_last_error()).find("batch size is -1") != std::string::npos, << reuse_last_error());
  reuse_plan_destroy(plan);
}

TEST(workers_do_everything_once) {
  Workers workers;
  for (int round = 0; round < 50; ++round) {
    std::vector<std::atomic<int>> done(100);
    workers.run(round % 4 + 1, 100, [&](int64_t i) { ++done[static_cast<size_t>(i)]; });
    for (const std::atomic<int>& times : done) EXPECT(times == 1);
  }
}

TEST(workers_help_several_callers_and_work_within_work) {
  Workers workers;
  std::atomic<int> done{0};
  std::vector<std::thread> callers;
  callers.reserve(4);
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        workers.run(3, 5, [&](int64_t) { workers.run(2, 7, [&](int64_t) { ++done; }); });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT(done == 4 * 20 * 5 * 7, << done.load());
}

TEST(workers_pass_on_a_failure_and_go_on) {
  Workers workers;
  expect_throw<std::runtime_error>("piece 7", [&] {
    workers.run(3, 20, [](int64_t i) {
      if (i == 7) throw std::runtime_error("piece 7");
    });
  });
  std::atomic<int> done{0};
  workers.run(3, 20, [&](int64_t) { ++done; });
  EXPECT(done == 20);
}

TEST(a_forked_process_has_workers_of_its_own) {
  std::atomic<int> done{0};
  const auto work = [&] { SharedWorkers(4).run(100, [&](int64_t) { ++done; }); };
  work();
  const pid_t child = fork();
  if (child == 0) {
    work();
    _exit(done == 200 ? 0 : 1);
  }
  int status = -1;
  EXPECT(waitpid(child, &status, 0) == child && status == 0, << status);
}

}  // namespace
}  // namespace reuse::testing
