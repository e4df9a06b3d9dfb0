// The Python module `puna.backends.cpu._native`.

#include <nanobind/nanobind.h>

namespace nb = nanobind;

NB_MODULE(_native, m) {
    m.doc() = "Kernels and program executor of the CPU backend.";
}
