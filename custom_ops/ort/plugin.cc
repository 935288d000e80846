// The entry points that ONNX Runtime (1.24 and later) looks for in a library of an execution provider, for programs
// that load those and no libraries of operators.
//
// The provider takes no nodes. What it brings is the operators' domain, which the runtime adds to all session options
// that the provider is added to. The kernels run in the providers of the CPU and of CUDA, as they do otherwise.
#include "register.h"
#include "reuse/capi.h"

namespace reuse::ort {
namespace {

constexpr const char* kName = "ReuseExecutionProvider";
constexpr int kNotApplicable = 0;  // OrtCompiledModelCompatibility_EP_NOT_APPLICABLE

const char* name_of_ep(const Ep*) { return kName; }
const char* name_of_factory(const EpFactory*) { return kName; }
const char* vendor(const EpFactory*) { return "reuse-compiler"; }
uint32_t vendor_id(const EpFactory*) { return 0; }
// The runtime takes three numbers only, without the suffix of a version in development.
const char* version(const EpFactory*) { return REUSE_RELEASE; }

Status* take_no_nodes(Ep*, const Graph*, SupportInfo*) { return nullptr; }

// One device, since two would add the domain twice.
Status* offer_cpu(EpFactory* factory, const HardwareDevice* const* devices, size_t num_devices, EpDevice** ep_devices,
                  size_t max_ep_devices, size_t* num_ep_devices) {
  *num_ep_devices = 0;
  const auto type_of = api().get<HardwareDeviceType(REUSE_ORT_CALL*)(const HardwareDevice*)>(kHardwareDeviceGetType);
  for (size_t i = 0; i < num_devices && max_ep_devices > 0; ++i) {
    if (type_of(devices[i]) != kHardwareCpu) continue;
    const EpApi* const ep_api = api().get<const EpApi*(REUSE_ORT_CALL*)()>(kGetEpApi)();
    Status* const status = ep_api->create_ep_device(factory, devices[i], nullptr, nullptr, ep_devices);
    if (status == nullptr) *num_ep_devices = 1;
    return status;
  }
  return nullptr;
}

Status* create_ep(EpFactory*, const HardwareDevice* const*, const KeyValuePairs* const*, size_t, const SessionOptions*,
                  const Logger*, Ep** ep) {
  return guarded([&] {
    *ep = new Ep{};
    (*ep)->version = kPluginApiVersion;
    (*ep)->get_name = name_of_ep;
    (*ep)->get_capability = take_no_nodes;
  });
}

void release_ep(EpFactory*, Ep* ep) { delete ep; }

Status* count_domains(EpFactory*, size_t* num_domains) {
  *num_domains = 1;
  return nullptr;
}

// It has no memory, data transfers, streams and compiled models of its own. The runtime does not ask first whether a
// factory has such functions, so that they are there and give nothing.
void have_nothing_else(EpFactory& factory) {
  factory.validate_compiled_model = [](EpFactory*, const HardwareDevice* const*, size_t, const char*,
                                       int* compatibility) -> Status* {
    *compatibility = kNotApplicable;
    return nullptr;
  };
  factory.create_allocator = [](EpFactory*, const MemoryInfo*, const KeyValuePairs*,
                                OrtAllocatorHandle** allocator) -> Status* {
    *allocator = nullptr;
    return nullptr;
  };
  factory.release_allocator = [](EpFactory*, OrtAllocatorHandle*) {};
  factory.create_data_transfer = [](EpFactory*, DataTransfer** transfer) -> Status* {
    *transfer = nullptr;
    return nullptr;
  };
  factory.is_stream_aware = [](const EpFactory*) { return false; };
  factory.create_sync_stream = [](EpFactory*, const MemoryDevice*, const KeyValuePairs*,
                                  SyncStream** stream) -> Status* {
    *stream = nullptr;
    return nullptr;
  };
}

// All sessions have the same domain, for which session it is not being told: they share their statistics.
Status* give_domain(EpFactory*, CustomOpDomain** domains, size_t num_domains) {
  return guarded([&] {
    static CustomOpDomain* const domain = make_domain("", false);
    if (num_domains > 0) domains[0] = domain;
  });
}

}  // namespace
}  // namespace reuse::ort

extern "C" REUSE_EXPORT reuse::ort::Status* CreateEpFactories(const char*, const reuse::ort::ApiBase* base,
                                                              const reuse::ort::Logger*,
                                                              reuse::ort::EpFactory** factories, size_t max_factories,
                                                              size_t* num_factories) {
  using namespace reuse::ort;
  *num_factories = 0;
  const Api* table = base->get_api(kApiVersion);
  if (table == nullptr) return nullptr;
  set_api(table);
  return guarded([&] {
    if (base->get_api(kPluginApiVersion) == nullptr) {
      throw std::runtime_error(
          "this onnxruntime takes no operators from a library of an execution provider, which 1.24 and later do: "
          "register the library with SessionOptions.register_custom_ops_library");
    }
    if (max_factories == 0) return;
    auto* factory = new EpFactory{};
    factory->version = kPluginApiVersion;
    factory->get_name = name_of_factory;
    factory->get_vendor = vendor;
    factory->get_supported_devices = offer_cpu;
    factory->create_ep = create_ep;
    factory->release_ep = release_ep;
    factory->get_vendor_id = vendor_id;
    factory->get_version = version;
    factory->get_num_custom_op_domains = count_domains;
    factory->get_custom_op_domains = give_domain;
    have_nothing_else(*factory);
    factories[0] = factory;
    *num_factories = 1;
  });
}

extern "C" REUSE_EXPORT reuse::ort::Status* ReleaseEpFactory(reuse::ort::EpFactory* factory) {
  delete factory;
  return nullptr;
}
