// Maps along the last axis of contiguous rows, float32 or bfloat16, on a CPU. Computes in float32.
//
// One program per map, in two layouts. Lanes: short rows side by side, a vector holds one column of them, so nothing is
// reduced across a vector. Row: a vector holds neighbours of one long row. `across<LANES>` is the only difference.
// The plain PyTorch path of each map (simplex.py, sparse.py) is the reference; the letters are those of its docstring.

#include "_layout.h"

static inline V log1p(V u, V y, V inverse) { return log(y) + (u - (y - 1.0f)) * inverse; }  // y = 1 + u > 0
static inline V root(V v) {
  for (int i = 0; i < WIDTH; i++) v[i] = sqrtf(v[i]);
  return v;
}
// The largest entry. Where it is infinite, or (COUNT) an entry is NaN, `clean` rewrites the row so that the plain
// program finds the limit, and `finish` applies the policy for bad numbers: a row of -inf gives `none`, NaN gives NaN.
template <bool LANES, bool COUNT = false> struct Top {
  V m; U size{};
  template <class R> Top(const R& x, V m = fill(-INF), V* copy = nullptr) : m(m) {
    for (Index j = 0; j < x.size(); j++) {
      V v = x[j];
      if (copy) copy[j] = v;
      this->m = larger(v, this->m);
      if (COUNT) { U bits = (U)v & 0x7fffffff; size = bits > size ? bits : size; }
    }
    this->m = across<LANES>(this->m, larger);
  }
  bool edge() const { return any(((U)(this->m) & 0x7fffffff) == 0x7f800000) || (COUNT && any(size > 0x7f800000)); }
  V fault{}; I dead{};
  template <class R> Columns clean(const R& x, V* to) {
    I infinite = (((U)m & 0x7fffffff) == 0x7f800000), nan{};
    for (Index j = 0; j < x.size(); j++) {
      V v = x[j];
      nan |= v != v;
      to[j] = choose(infinite, v == m ? V{} : fill(-INF), v);
    }
    fault = across<LANES>(choose(nan, fill(1.0f), V{}), larger) > 0.0f ? fill(NAN) : V{};
    dead = m == -INF, m = choose(infinite, V{}, m);
    return Columns{to, x.size()};
  }
  V finish(V v, float none = 0.0f) const { return choose(dead, fill(none), v) + fault; }
};
static inline V finite(V x) { return fill(-3.4028235e38f) > x ? fill(-3.4028235e38f) : x; }

enum Map { SOFTMAX, LOG_SOFTMAX, SOFTMAX1, SOLU, GUMBEL, SPARSEMAX, ENTMAX15, ENTMAX };

template <int MAP, bool HALF> struct Dense {
  static constexpr float pad = -INF;
  static constexpr Index longest = 24;  // row that goes into lanes, measured
  template <bool LANES, class R, class W> V run(const R& x, const R&, W y, const Group& g) const {
    if (MAP != GUMBEL) return weigh<LANES>(x, y, g);
    // The same numbers whatever the threads and the vectors: a counter gives columns c and c + half.
    Index half = LANES ? (g.size + 1) / 2 : (g.size + 31) / 32 * 16, step = LANES ? 1 : WIDTH;
    float* to = (float*)g.scratch;
    for (Index c = 0; c < half; c += step) {
      V two[2];
      noise(g, c, two);
      store(to + c / step * WIDTH, two[0]), store(to + (c + half) / step * WIDTH, two[1]);
    }
    for (Index j = 0; j < x.size(); j++) g.scratch[j] += x[j];
    return weigh<LANES>(Columns{g.scratch, x.size()}, y, g);
  }
  template <bool LANES, class R, class W> V weigh(const R& x, W y, const Group& g) const {
    Top<LANES> top = MAP == SOFTMAX1 ? Top<LANES>(x, g.extra) : Top<LANES>(x);
    if (!top.edge()) return normalise<LANES>(x, y, top.m, g.extra, g), V{};
    *g.edge = 1;
    V extra = choose(top.m == INF, fill(-INF), g.extra);
    Columns c = top.clean(x, g.spare);
    if (MAP == SOFTMAX1) top.dead = I{}, top.fault += g.extra * 0.0f;
    Dense<MAP == SOLU ? (int)SOFTMAX : MAP, HALF>().template normalise<LANES>(c, c, top.m, extra, g);
    for (Index j = 0; j < c.n; j++) {
      V p = c[j];
      if (MAP == SOLU) p = choose(p == 0.0f, V{}, x[j] * g.scale * p);
      y.put(j, top.finish(p, MAP == LOG_SOFTMAX ? -INF : 0.0f));
    }
    return V{};
  }
  template <bool LANES, class R, class W> void normalise(const R& x, W y, V m, V extra, const Group& g) const {
    Sum sum;
    auto less = [&](V v) -> V { return (v - m) * g.scale; };
    for (Index j = 0; j < x.size(); j++) {
      V e = exp<HALF>(less(x[j]));
      sum.add(e);
      if (MAP != LOG_SOFTMAX) g.scratch[j] = e;
    }
    V total = sum.template value<LANES>();
    if (MAP == SOFTMAX1) total += exp<HALF>(less(extra));
    V part = MAP == LOG_SOFTMAX ? log(total) + total * 0.0f : 1.0f / total;  // log loses a NaN
    for (Index j = 0; j < x.size(); j++) {
      if (MAP == LOG_SOFTMAX) y.put(j, less(x[j]) - part);
      else if (MAP == SOLU) y.put(j, finite(x[j] * g.scale) * (g.scratch[j] * part));
      else y.put(j, g.scratch[j] * part);
    }
  }
  static void noise(const Group& g, Index column, V* two) {
    const uint32_t key[3] = {g.key[0], g.key[1], g.key[0] ^ g.key[1] ^ 0x1BD11BDAu};
    const int turns[8] = {13, 15, 26, 6, 17, 29, 16, 24};  // Threefry-2x32-20 (Salmon et al. 2011) of (row, column)
    U x0 = g.row + key[0], x1 = g.column + (uint32_t)column + key[1];
    for (int round = 0; round < 20; round++) {
      x0 += x1, x1 = (x1 << turns[round % 8]) | (x1 >> (32 - turns[round % 8])), x1 ^= x0;
      if (round % 4 == 3) x0 += key[(round / 4 + 1) % 3], x1 += key[(round / 4 + 2) % 3] + (round / 4 + 1);
    }
    for (int i = 0; i < 2; i++) {
      V u = (__builtin_convertvector(i ? x1 : x0, V) + 0.5f) * -2.3283064e-10f;
      u = u < -0.99999994f ? fill(-0.99999994f) : u;
      V y = 1.0f + u;
      two[i] = -log(-log1p(u, y, 1.0f / y));
    }
  }
};

template <int MAP, bool HALF> struct Sparse {  // p = [tau' + d z]_+ ^ (1 / d), d = alpha - 1, such that it sums to 1
  static constexpr float pad = -INF;
  static constexpr Index longest = SHORT;
  template <bool LANES, class R, class W> V run(const R& x, const R&, W y, const Group& g) const {
    if (HALF && !LANES && x.size() < 16384 / WIDTH) {  // converted once
      Top<LANES, true> top(x, fill(-INF), g.spare);
      if (!top.edge()) return project<LANES>(Columns{g.spare, x.size()}, y, top.m, g), V{};
    }
    Top<LANES, true> top(x);
    if (!top.edge()) return project<LANES>(x, y, top.m, g), V{};
    *g.edge = 1;
    Columns c = top.clean(x, g.spare);
    project<LANES>(c, c, top.m, g);
    for (Index j = 0; j < c.n; j++) y.put(j, top.finish(c[j]));
    return V{};
  }
  template <bool LANES, class R, class W> void project(const R& x, W y, V m, const Group& g) const {
    V d = MAP == ENTMAX ? g.extra - 1.0f : fill(MAP == SPARSEMAX ? 1.0f : 0.5f);
    V inverse = 1.0f / choose(d == 0.0f, fill(1.0f), d);
    float scale = MAP == ENTMAX15 ? 0.5f * g.scale : g.scale;
    auto less = [&](V v) -> V { return (v - m) * scale; };
    Index size = 0;  // of what can be in the support, all with z > -1 / d
    if (LANES) for (Index j = 0; j < x.size(); j++) g.scratch[size++] = less(x[j]);
    else {
      float* out = (float*)g.scratch;
      V least = MAP == ENTMAX ? choose(d > 0.0f, -inverse, fill(-INF)) : fill(-1.0f);
      for (Index j = 0; j < x.size(); j++) {
        V z = less(x[j]);
#ifdef __AVX512F__
        __mmask16 bits = _mm512_cmp_ps_mask((__m512)z, (__m512)least, _CMP_GT_OQ);
        if (!bits) continue;
        store(out, (V)_mm512_maskz_compress_ps(bits, (__m512)z));
        out += __builtin_popcount(bits);
#else
        I in = z > least;
        if (any(in)) for (int i = 0; i < WIDTH; i++) { *out = z[i]; out += in[i] & 1; }
#endif
      }
      store(out, fill(-INF));
      size = (out - (float*)g.scratch + WIDTH - 1) / WIDTH;
    }
    V total, threshold = solve<LANES>(g, size, d, inverse, &total), part = 1.0f / total, grow = grown(threshold, d);
    for (Index j = 0; j < x.size(); j++) {
      V z = less(x[j]);
      if (MAP == ENTMAX) { y.put(j, power(z, threshold, grow, d, inverse) * part); continue; }
      z = larger(z - threshold, V{});
      y.put(j, MAP == SPARSEMAX ? z : z * z * part);
    }
  }
  static V grown(V lead, V d) { V u = -d * lead; return exp<false>(u < 80.0f ? u : fill(80.0f)); }
  // p = e^l [1 + d z e^(-d l)]_+ ^ (1 / d), where l is the logarithm of the largest weight, and dp/dl.
  static V power(V z, V lead, V grow, V d, V inverse, V* slope = nullptr) {
    V w = z * grow, u = d * w;  // infinite where nothing takes part
    I in = (u > -1.0f) & (u < 1e30f), small = (u < 1e-3f) & (u > -1e-3f);
    if (!any(in)) return V{};
    u = choose(in, u, V{});
    V y = 1.0f + u, flip = 1.0f / y;
    V l = choose(small, w * (1.0f - u * (0.5f - u * (1.0f / 3))), log1p(u, y, flip) * inverse);
    V p = choose(in, exp<HALF>(lead + l), V{});
    if (slope) *slope = p * flip;
    return p;
  }
  // Newton's method on ||.||_(1 / d) in tau, or in e^(d l), in which it is convex for alpha <= 2; halving beyond.
  template <bool LANES> static V solve(const Group& g, Index size, V d, V inverse, V* total) {
    const V* z = g.scratch;
    V t = fill(MAP == ENTMAX ? 0.0f : -1.0f), low = fill(-logf(g.size) - 0.01f), high{}, before{};
    for (int step = 0; step < 64; step++) {
      Sum s, q;
      V grow = grown(t, d);
      for (Index j = 0; j < size; j++) {
        V w = z[j] - t, part{};
        if (MAP == ENTMAX) s.add(power(z[j], t, grow, d, inverse, &part)), q.add(part);
        else {
          V w0 = larger(w, V{});
          s.add(MAP == SPARSEMAX ? w0 : w0 * w0);
          q.add(MAP == SPARSEMAX ? choose(w > 0.0f, fill(1.0f), V{}) : w0);
        }
      }
      V S = s.template value<LANES>(), Q = q.template value<LANES>(), next;
      *total = S;
      if (MAP == SPARSEMAX) {
        next = t + (S - 1.0f) / Q;
        I open = Q != before;
        t = next, before = Q;
        if (!any(open)) break;
        continue;
      }
      if (MAP == ENTMAX15) next = t + (S - root(S)) / Q;
      else {
        V l = log(S), u = d * l, v = -u < 80.0f ? -u : fill(80.0f);
        I small = (u < 1e-3f) & (u > -1e-3f);
        V r = S * choose(small, l * (1.0f - u * (0.5f - u * (1.0f / 6))), (1.0f - exp<false>(v)) * inverse) / Q;
        u = -d * r, v = 1.0f + u, small = (u < 1e-3f) & (u > -1e-3f);
        I valid = v > 1e-30f;
        v = choose(valid, v, fill(1.0f));
        next = t - r * choose(small, 1.0f - u * (0.5f - u * (1.0f / 3)), log1p(u, v, 1.0f / v) / choose(small, v, u));
        low = S > 1.0f ? low : t, high = S > 1.0f ? t : high;
        next = choose(valid & (next > low) & (next < high), next, 0.5f * (low + high));
      }
      I open = ((S > 1.0000002f) | (S < 0.9999998f)) & (next != t);
      if (!any(open)) break;
      t = choose(open, next, t);
    }
    return t;
  }
};

// With q = p^(2 - alpha): dx = q (g - sum(q g) / sum(q)) / t. Gets p and g; SOLU gets the scores in place of p.
template <int MAP, bool HALF> struct Backward {
  static constexpr float pad = MAP == SOLU || MAP == LOG_SOFTMAX ? -INF : 0.0f;
  static constexpr Index longest = 16;
  template <bool LANES, class R, class W> V run(const R& y, const R& gradient, W dx, const Group& g) const {
    V d = g.extra - 1.0f, shift{};
    if (MAP == SOLU) {
      Dense<SOFTMAX, false>().template weigh<LANES>(y, Columns{g.scratch, y.size()}, g);
    }
    auto pull = [&](Index j, V v) -> V {  // q
      if (MAP == LOG_SOFTMAX) return exp<HALF>(v);
      if (MAP == SOLU) return g.scratch[j];
      if (MAP == SPARSEMAX) return choose(v > 0.0f, fill(1.0f), v);
      if (MAP == ENTMAX15) return root(v);
      if (MAP == ENTMAX) {
        I in = v >= 1.17549435e-38f;
        return choose(in, exp<HALF>((1.0f - d) * log(choose(in, v, fill(1.0f)))), v * 0.0f);
      }
      return v;
    };
    Sum product, mass;
    for (Index j = 0; j < y.size(); j++) {
      V q = pull(j, y[j]), w = gradient[j];
      if (MAP == SOLU) w *= choose((q == 0.0f) | (y[j] == INF), V{}, y[j] * g.scale);
      product.add(MAP == LOG_SOFTMAX ? choose(y[j] == -INF, V{}, w) : q * w);
      mass.add(q);
    }
    V A = product.template value<LANES>(), B = mass.template value<LANES>(), extra{};
    shift = MAP == LOG_SOFTMAX || MAP == SOFTMAX1 || MAP == SOLU ? A : A / choose(B == 0.0f, fill(1.0f), B);
    if (MAP == SOFTMAX1) extra = (B - 1.0f) * A * g.scale;
    Sum alpha;
    for (Index j = 0; j < y.size(); j++) {
      V v = y[j], w = gradient[j], q = pull(j, v);
      if (MAP == LOG_SOFTMAX) { dx.put(j, choose(v == -INF, V{}, w - q * A) * g.scale); continue; }
      if (MAP == SOLU) w += w * choose((q == 0.0f) | (v == INF), V{}, v * g.scale) - shift;  // what cancels, first
      if (MAP == ENTMAX && g.want) {  // dp/dalpha, by l = log p: sum of (q - p + d p l) / d^2 (shift - g)
        V l = log(choose(v >= 1.17549435e-38f, v, fill(1.0f))), u = -d * l;
        V series = 0.5f + u * (1.f / 6 + u * (1.f / 24 + u * (1.f / 120 + u * (1.f / 720 + u * (1.f / 5040 + u * (1.f / 40320))))));
        I small = u < 0.5f;
        V part = choose(small, v * l * l * series, (q - v + d * v * l) / choose(small, fill(1.0f), d * d));
        alpha.add(part * (shift - w));
      }
      dx.put(j, (MAP == SOLU ? q * w : q * (w - shift)) * g.scale);
    }
    if (MAP == ENTMAX) extra = alpha.template value<LANES>();
    return extra;
  }
};

template <class T> static int forward(int map, const T* x, T* y, const Job& job) {
  constexpr bool half = sizeof(T) == 2;
  switch (map) {
    case SOFTMAX: return run(x, (const T*)0, y, job, Dense<SOFTMAX, half>());
    case LOG_SOFTMAX: return run(x, (const T*)0, y, job, Dense<LOG_SOFTMAX, half>());
    case SOFTMAX1: return run(x, (const T*)0, y, job, Dense<SOFTMAX1, half>());
    case SOLU: return run(x, (const T*)0, y, job, Dense<SOLU, half>());
    case GUMBEL: return run(x, (const T*)0, y, job, Dense<GUMBEL, half>());
    case SPARSEMAX: return run(x, (const T*)0, y, job, Sparse<SPARSEMAX, half>());
    case ENTMAX15: return run(x, (const T*)0, y, job, Sparse<ENTMAX15, half>());
    case ENTMAX: return run(x, (const T*)0, y, job, Sparse<ENTMAX, half>());
  }
  return -1;
}
template <class T> static int backward(int map, const T* y, const T* gradient, T* dx, const Job& job) {
  constexpr bool half = sizeof(T) == 2;
  switch (map) {
    case SOFTMAX: case GUMBEL: return run(y, gradient, dx, job, Backward<SOFTMAX, half>());
    case LOG_SOFTMAX: return run(y, gradient, dx, job, Backward<LOG_SOFTMAX, half>());
    case SOFTMAX1: return run(y, gradient, dx, job, Backward<SOFTMAX1, half>());
    case SOLU: return run(y, gradient, dx, job, Backward<SOLU, half>());
    case SPARSEMAX: return run(y, gradient, dx, job, Backward<SPARSEMAX, half>());
    case ENTMAX15: return run(y, gradient, dx, job, Backward<ENTMAX15, half>());
    case ENTMAX: return run(y, gradient, dx, job, Backward<ENTMAX, half>());
  }
  return -1;
}
extern "C" int softplace_forward(int map, int half, const void* x, void* y, const Job* job) {
  prepare(y, *job, half ? 2 : 4);
  return half ? forward(map, (const uint16_t*)x, (uint16_t*)y, *job) : forward(map, (const float*)x, (float*)y, *job);
}
extern "C" int softplace_backward(int map, int half, const void* y, const void* g, void* dx, const Job* job) {
  prepare(dx, *job, half ? 2 : 4);
  return half ? backward(map, (const uint16_t*)y, (const uint16_t*)g, (uint16_t*)dx, *job)
              : backward(map, (const float*)y, (const float*)g, (float*)dx, *job);
}
