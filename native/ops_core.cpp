// The core ops: plain loops over strided views of float32, int32 and bool. Fused ops carry the weight; these complete.

#include <cmath>
#include <cstring>
#include <limits>

#include "program.h"

namespace puna {

namespace {

constexpr int64_t unit_elements = 4096;

// ---- elementwise: every view has the output's shape (stride 0 where broadcast), views[0] is the output

bool mergeable(const Bound &bound, int d) {
    for (const View &view : bound.views) {
        if (view.data && view.strides[d] != view.shape[d + 1] * view.strides[d + 1]) return false;
    }
    return true;
}

// Neighbouring axes that every view walks with one stride become one; there is always at least one axis.
void collapse(Bound &bound) {
    for (View &view : bound.views) {
        if (view.rank == 0) view.rank = 1, view.shape[0] = 1, view.strides[0] = 0;
    }
    for (int d = bound.views[0].rank - 2; d >= 0; d--) {
        if (!mergeable(bound, d)) continue;
        for (View &view : bound.views) {
            view.shape[d] *= view.shape[d + 1];
            view.strides[d] = view.strides[d + 1];
            for (int e = d + 1; e + 1 < view.rank; e++)
                view.shape[e] = view.shape[e + 1], view.strides[e] = view.strides[e + 1];
            view.rank--;
        }
    }
}

int64_t elements(const View &view) {
    int64_t n = 1;
    for (int d = 0; d < view.rank; d++) n *= view.shape[d];
    return n;
}

int64_t element_units(const Bound &bound, const Run &) {
    return (elements(bound.views[0]) + unit_elements - 1) / unit_elements;
}

int64_t offset_of(const View &view, int64_t index) {  // of an element by its row-major number, in elements
    int64_t offset = 0;
    for (int d = view.rank - 1; d >= 0; d--) {
        offset += index % view.shape[d] * view.strides[d];
        index /= view.shape[d];
    }
    return offset;
}

// f(pointer offsets in elements of each view, n): runs along the last axis within the units.
template <int views, class F> void each_row(const Bound &bound, int64_t begin, int64_t end, F &&f) {
    const View &out = bound.views[0];
    const int64_t row = out.shape[out.rank - 1], stop = std::min(elements(out), end * unit_elements);
    for (int64_t i = begin * unit_elements; i < stop;) {
        const int64_t n = std::min(row - i % row, stop - i);
        int64_t at[views];
        for (int v = 0; v < views; v++) at[v] = offset_of(bound.views[size_t(v)], i);
        f(at, n);
        i += n;
    }
}

int64_t last_stride(const View &view) { return view.strides[view.rank - 1]; }

template <class In, class Out, class F> void unary(const Bound &bound, int64_t begin, int64_t end, F &&f) {
    const View &y = bound.views[0], &a = bound.views[1];
    const int64_t sy = last_stride(y), sa = last_stride(a);
    each_row<2>(bound, begin, end, [&](const int64_t *at, int64_t n) {
        Out *out = y.as<Out>() + at[0];
        const In *x = a.as<In>() + at[1];
        if (sy == 1 && sa == 1) {
            for (int64_t i = 0; i < n; i++) out[i] = f(x[i]);
        } else {
            for (int64_t i = 0; i < n; i++) out[i * sy] = f(x[i * sa]);
        }
    });
}

template <class In, class Out, class F> void binary(const Bound &bound, int64_t begin, int64_t end, F &&f) {
    const View &y = bound.views[0], &a = bound.views[1], &b = bound.views[2];
    const int64_t sy = last_stride(y), sa = last_stride(a), sb = last_stride(b);
    each_row<3>(bound, begin, end, [&](const int64_t *at, int64_t n) {
        Out *out = y.as<Out>() + at[0];
        const In *p = a.as<In>() + at[1], *q = b.as<In>() + at[2];
        if (sy == 1 && sa == 1 && sb == 1) {
            for (int64_t i = 0; i < n; i++) out[i] = f(p[i], q[i]);
        } else if (sy == 1 && sa == 1 && sb == 0) {
            const In value = *q;
            for (int64_t i = 0; i < n; i++) out[i] = f(p[i], value);
        } else {
            for (int64_t i = 0; i < n; i++) out[i * sy] = f(p[i * sa], q[i * sb]);
        }
    });
}

// float32 and int32; int32 wraps as numpy's does.
template <class F> void arithmetic(const Bound &bound, int64_t begin, int64_t end, F &&f) {
    if (bound.views[0].element == Element::f32) {
        binary<float, float>(bound, begin, end, [&](float a, float b) { return f(a, b); });
    } else {
        binary<int32_t, int32_t>(bound, begin, end,
                                 [&](int32_t a, int32_t b) { return int32_t(f(uint32_t(a), uint32_t(b))); });
    }
}

template <class F> void comparison(const Bound &bound, int64_t begin, int64_t end, F &&f) {
    if (bound.views[1].element == Element::f32) {
        binary<float, bool>(bound, begin, end, f);
    } else {
        binary<int32_t, bool>(bound, begin, end, f);
    }
}

template <class F> void extreme(const Bound &bound, int64_t begin, int64_t end, F &&better) {
    if (bound.views[0].element == Element::f32) {
        binary<float, float>(bound, begin, end, [&](float a, float b) { return a != a || better(a, b) ? a : b; });
    } else {
        binary<int32_t, int32_t>(bound, begin, end, [&](int32_t a, int32_t b) { return better(a, b) ? a : b; });
    }
}

void add(const Bound &b, const Run &, int64_t i, int64_t n) {
    arithmetic(b, i, n, [](auto x, auto y) { return x + y; });
}
void sub(const Bound &b, const Run &, int64_t i, int64_t n) {
    arithmetic(b, i, n, [](auto x, auto y) { return x - y; });
}
void mul(const Bound &b, const Run &, int64_t i, int64_t n) {
    arithmetic(b, i, n, [](auto x, auto y) { return x * y; });
}
void div(const Bound &b, const Run &, int64_t i, int64_t n) {
    binary<float, float>(b, i, n, [](float x, float y) { return x / y; });
}
void maximum(const Bound &b, const Run &, int64_t i, int64_t n) {
    extreme(b, i, n, [](auto x, auto y) { return x > y; });
}
void minimum(const Bound &b, const Run &, int64_t i, int64_t n) {
    extreme(b, i, n, [](auto x, auto y) { return x < y; });
}
void less(const Bound &b, const Run &, int64_t i, int64_t n) {
    comparison(b, i, n, [](auto x, auto y) { return x < y; });
}
void equal(const Bound &b, const Run &, int64_t i, int64_t n) {
    comparison(b, i, n, [](auto x, auto y) { return x == y; });
}
void both(const Bound &b, const Run &, int64_t i, int64_t n) {
    binary<bool, bool>(b, i, n, [](bool x, bool y) { return x && y; });
}
void negate(const Bound &b, const Run &, int64_t i, int64_t n) {
    unary<bool, bool>(b, i, n, [](bool x) { return !x; });
}

void neg(const Bound &b, const Run &, int64_t i, int64_t n) {
    if (b.views[0].element == Element::f32) return unary<float, float>(b, i, n, [](float x) { return -x; });
    unary<int32_t, int32_t>(b, i, n, [](int32_t x) { return int32_t(0u - uint32_t(x)); });
}

void magnitude(const Bound &b, const Run &, int64_t i, int64_t n) {
    if (b.views[0].element == Element::f32) return unary<float, float>(b, i, n, [](float x) { return std::fabs(x); });
    unary<int32_t, int32_t>(b, i, n, [](int32_t x) { return x < 0 ? int32_t(0u - uint32_t(x)) : x; });
}

template <float (*F)(float)> void function(const Bound &b, const Run &, int64_t i, int64_t n) {
    unary<float, float>(b, i, n, [](float x) { return F(x); });
}

void copy(const Bound &b, const Run &, int64_t i, int64_t n) {
    if (b.views[0].element == Element::boolean) return unary<bool, bool>(b, i, n, [](bool x) { return x; });
    unary<int32_t, int32_t>(b, i, n, [](int32_t x) { return x; });  // 4 bytes, whatever they mean
}

int32_t truncated(float x) {  // outside the range: the lowest number, as x86's conversion
    return x >= -0x1p31f && x < 0x1p31f ? int32_t(x) : std::numeric_limits<int32_t>::min();
}

template <class In> void cast_from(const Bound &b, int64_t i, int64_t n) {
    switch (b.views[0].element) {
    case Element::f32: return unary<In, float>(b, i, n, [](In x) { return float(x); });
    case Element::boolean: return unary<In, bool>(b, i, n, [](In x) { return x != 0; });
    default:
        return unary<In, int32_t>(b, i, n, [](In x) {
            if constexpr (std::is_same_v<In, float>) return truncated(x);
            return int32_t(x);
        });
    }
}

void cast(const Bound &b, const Run &, int64_t i, int64_t n) {
    switch (b.views[1].element) {
    case Element::f32: return cast_from<float>(b, i, n);
    case Element::boolean: return cast_from<bool>(b, i, n);
    default: return cast_from<int32_t>(b, i, n);
    }
}

template <class T> void choose(const Bound &bound, int64_t begin, int64_t end) {
    const View &y = bound.views[0], &c = bound.views[1], &a = bound.views[2], &b = bound.views[3];
    const int64_t sy = last_stride(y), sc = last_stride(c), sa = last_stride(a), sb = last_stride(b);
    each_row<4>(bound, begin, end, [&](const int64_t *at, int64_t n) {
        T *out = y.as<T>() + at[0];
        const bool *condition = c.as<bool>() + at[1];
        const T *p = a.as<T>() + at[2], *q = b.as<T>() + at[3];
        for (int64_t i = 0; i < n; i++) out[i * sy] = condition[i * sc] ? p[i * sa] : q[i * sb];
    });
}

void where(const Bound &b, const Run &, int64_t i, int64_t n) {
    b.views[0].element == Element::boolean ? choose<bool>(b, i, n) : choose<int32_t>(b, i, n);
}

// ---- reductions: views out (outer, inner), x (outer, axis, inner)

template <class F> void reduce(const Bound &bound, int64_t begin, int64_t end, F &&f) {
    const View &y = bound.views[0], &x = bound.views[1];
    const int64_t inner = y.shape[1];
    for (int64_t i = begin; i < end; i++) {
        const float *from = x.as<float>() + i / inner * x.strides[0] + i % inner * x.strides[2];
        y.as<float>()[i / inner * y.strides[0] + i % inner * y.strides[1]] = f(from, x.shape[1], x.strides[1]);
    }
}

int64_t reduce_units(const Bound &bound, const Run &) { return bound.views[0].shape[0] * bound.views[0].shape[1]; }

void total(const Bound &bound, const Run &, int64_t begin, int64_t end) {
    reduce(bound, begin, end, [](const float *x, int64_t n, int64_t stride) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++) sum += x[i * stride];
        return float(sum);
    });
}

void largest(const Bound &bound, const Run &, int64_t begin, int64_t end) {
    reduce(bound, begin, end, [](const float *x, int64_t n, int64_t stride) {
        float most = -INFINITY;
        for (int64_t i = 0; i < n; i++) {
            const float value = x[i * stride];
            most = most != most || value <= most ? most : value;
        }
        return most;
    });
}

// ---- matmul: views out, a, b as (batch, rows, columns); out is contiguous

int64_t matmul_units(const Bound &bound, const Run &) { return bound.views[0].shape[0] * bound.views[0].shape[1]; }

void matmul(const Bound &bound, const Run &, int64_t begin, int64_t end) {
    const View &y = bound.views[0], &a = bound.views[1], &b = bound.views[2];
    const int64_t rows = y.shape[1], columns = y.shape[2], depth = a.shape[2];
    for (int64_t unit = begin; unit < end; unit++) {
        const float *p = a.as<float>() + unit / rows * a.strides[0] + unit % rows * a.strides[1];
        const float *q = b.as<float>() + unit / rows * b.strides[0];
        float *out = y.as<float>() + unit * columns;
        std::fill(out, out + columns, 0.0f);
        for (int64_t k = 0; k < depth; k++, p += a.strides[2], q += b.strides[1]) {
            const float factor = *p;
            if (b.strides[2] == 1) {
                for (int64_t j = 0; j < columns; j++) out[j] += factor * q[j];
            } else {
                for (int64_t j = 0; j < columns; j++) out[j] += factor * q[j * b.strides[2]];
            }
        }
    }
}

// ---- rows by index: views out (n, row), x (rows, row), index (n); rows contiguous. ints: bytes of an element

int64_t take_units(const Bound &bound, const Run &) { return bound.views[0].shape[0]; }

void take(const Bound &bound, const Run &run, int64_t begin, int64_t end) {
    const View &y = bound.views[0], &x = bound.views[1], &index = bound.views[2];
    const int64_t size = bound.integer(0), row = x.shape[1] * size;
    for (int64_t i = begin; i < end; i++) {
        int64_t at = index.as<int32_t>()[i * index.strides[0]];
        if (at < 0) at += x.shape[0];
        if (at < 0 || at >= x.shape[0]) {
            run.fail(bound);
            at = 0;
        }
        if (x.shape[0] > 0) std::memcpy(y.data + i * row, x.data + at * x.strides[0] * size, size_t(row));
    }
}

int64_t one_unit(const Bound &, const Run &) { return 1; }

void iota(const Bound &bound, const Run &, int64_t, int64_t) {
    for (int64_t i = 0; i < bound.views[0].shape[0]; i++) bound.views[0].as<int32_t>()[i] = int32_t(i);
}

constexpr Kernel elementwise(std::string_view name, void (*run)(const Bound &, const Run &, int64_t, int64_t)) {
    return {name, element_units, run, collapse};
}

}  // namespace

const std::vector<Kernel> core_kernels = {
    elementwise("add", add),
    elementwise("sub", sub),
    elementwise("mul", mul),
    elementwise("div", div),
    elementwise("maximum", maximum),
    elementwise("minimum", minimum),
    elementwise("neg", neg),
    elementwise("abs", magnitude),
    elementwise("exp", function<std::exp>),
    elementwise("log", function<std::log>),
    elementwise("sqrt", function<std::sqrt>),
    elementwise("sin", function<std::sin>),
    elementwise("cos", function<std::cos>),
    elementwise("tanh", function<std::tanh>),
    elementwise("erf", function<std::erf>),
    elementwise("less", less),
    elementwise("equal", equal),
    elementwise("and", both),
    elementwise("not", negate),
    elementwise("where", where),
    elementwise("cast", cast),
    elementwise("copy", copy),
    {"sum", reduce_units, total},
    {"max", reduce_units, largest},
    {"matmul", matmul_units, matmul},
    {"take", take_units, take},
    {"iota", one_unit, iota},
};

}  // namespace puna
