// What both machines are made of: matrix products of a few samples, the controller, maps, content look-up, with gradients.
//
// A slot's numbers lie apart and its neighbours beside it: memory is (width, slots), slots padded to whole vectors, so
// that nothing but a sum over slots crosses a vector. Padding has weight 0. Gradients carry a d before their name.

#pragma once
#include <algorithm>
#include <cstdlib>

#include "../maps/_vector.h"

constexpr float EPSILON = 1e-6f, TINY = 1e-30f, NEAR = 1e-6f;

static inline Index padded(Index n) { return (n + WIDTH - 1) / WIDTH * WIDTH; }
static inline float total(V v) { return across<false>(v, [](V a, V b) { return a + b; })[0]; }
static inline float highest(V v) { return across<false>(v, larger)[0]; }
static inline V root(V v) {
#ifdef __AVX512F__
  return (V)_mm512_sqrt_ps((__m512)v);
#else
  for (int i = 0; i < WIDTH; i++) v[i] = sqrtf(v[i]);
  return v;
#endif
}
static inline V at_most(V v, float most) { return choose(v > most, fill(most), v); }  // keeps NaN
static inline V sigmoid(V x) { return 1.0f / (1.0f + exp<false>(at_most(-x, 88.0f))); }
static inline V tanh(V x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }
static inline V log1p(V u) {  // 0 <= u
  V y = 1.0f + u;
  return log(y) + (u - (y - 1.0f)) / y + u * 0.0f;
}
static inline V softplus(V x) {
  V size = choose(x > 0.0f, -x, x);
  return choose(x > 0.0f, x, x * 0.0f) + log1p(exp<false>(size));
}
template <class F> static inline void each(float* p, Index count, F f) {
  Index i = 0;
  for (; i + WIDTH <= count; i += WIDTH) store(p + i, f(load(p + i)));
  if (i < count) store(p + i, f(load(p + i, count - i, V{})), count - i);
}
static inline void clear(float* p, Index count) { memset(p, 0, count * sizeof(float)); }
static inline void add(float* to, const float* from, Index count) { for (Index i = 0; i < count; i++) to[i] += from[i]; }

// ---- matrix products: out[b] += A x[b], for the few samples of a group, by panels of four vectors of outputs
constexpr Index PANEL = 4 * WIDTH;
struct Packed {  // A of (outputs, inputs), panel by panel, in each one input after the other
  Index outputs = 0, inputs = 0;
  float* p = nullptr;
  static Index room(Index outputs, Index inputs) { return padded(outputs) * inputs; }
  // From rows of outputs (`W`, as PyTorch keeps it) or, `turned`, from its transpose.
  void pack(const float* w, Index rows, Index columns, bool turned, float* to) {
    outputs = turned ? columns : rows, inputs = turned ? rows : columns, p = to;
    for (Index start = 0; start < outputs; start += PANEL) {
      Index size = std::min(PANEL, padded(outputs) - start), real = std::min(PANEL, outputs - start);
      float* panel = p + start * inputs;
      if (turned) {
        for (Index k = 0; k < inputs; k++) {
          memcpy(panel + k * size, w + k * columns + start, real * sizeof(float));
          if (real < size) clear(panel + k * size + real, size - real);
        }
        continue;
      }
      for (Index j = 0; j < size; j += WIDTH)
        for (Index k = 0; k < inputs; k += WIDTH) {
          V block[WIDTH];
          Index wide = std::min<Index>(WIDTH, inputs - k);
          for (Index r = 0; r < WIDTH; r++) {
            const float* from = w + (start + j + r) * columns + k;
            block[r] = start + j + r >= outputs ? V{} : wide == WIDTH ? load(from) : load(from, wide, V{});
          }
          transpose(block);
          for (Index c = 0; c < wide; c++) store(panel + (k + c) * size + j, block[c]);
        }
    }
  }
};
// In the same order of additions for every NB: what a sample gets does not depend on who is beside it.
template <int NB, int NV> static void block(const float* panel, Index inputs, const float* const* x, float* const* out) {
  V sum[NB][NV];
  for (int b = 0; b < NB; b++)
    for (int v = 0; v < NV; v++) sum[b][v] = load(out[b] + v * WIDTH);
  for (Index k = 0; k < inputs; k++, panel += NV * WIDTH) {
    V a[NV];
    for (int v = 0; v < NV; v++) a[v] = load(panel + v * WIDTH);
    for (int b = 0; b < NB; b++)
      for (int v = 0; v < NV; v++) sum[b][v] += a[v] * x[b][k];
  }
  for (int b = 0; b < NB; b++)
    for (int v = 0; v < NV; v++) store(out[b] + v * WIDTH, sum[b][v]);
}
template <int NB> static void blocks(int vectors, const float* panel, Index inputs, const float* const* x, float* const* out) {
  switch (vectors) {
    case 1: return block<NB, 1>(panel, inputs, x, out);
    case 2: return block<NB, 2>(panel, inputs, x, out);
    case 3: return block<NB, 3>(panel, inputs, x, out);
    default: return block<NB, 4>(panel, inputs, x, out);
  }
}
constexpr int GROUP = 8;  // samples that go through the controller together
// `out[b]` has room for padded(outputs) numbers.
static void multiply(const Packed& a, int samples, const float* const* x, float* const* out) {
  for (Index start = 0; start < a.outputs; start += PANEL) {
    int vectors = (int)(std::min(PANEL, padded(a.outputs) - start) / WIDTH);
    const float* panel = a.p + start * a.inputs;
    float* to[GROUP];
    for (int b = 0; b < samples; b++) to[b] = out[b] + start;
    for (int b = 0; b < samples;) {
      int left = samples - b;
      if (left >= 4) blocks<4>(vectors, panel, a.inputs, x + b, to + b), b += 4;
      else if (left == 3) blocks<3>(vectors, panel, a.inputs, x + b, to + b), b += 3;
      else if (left == 2) blocks<2>(vectors, panel, a.inputs, x + b, to + b), b += 2;
      else blocks<1>(vectors, panel, a.inputs, x + b, to + b), b += 1;
    }
  }
}

// ---- the interface: ranges of its columns and how each is squashed
enum Squash { LINEAR, SIGMOID, SOFTPLUS, ONEPLUS, SOFTMAXES, MASK };
struct Range { Index start, count; Squash kind; Index group; };
static void squash(const std::vector<Range>& ranges, float* p) {
  for (const Range& r : ranges) {
    float* x = p + r.start;
    if (r.kind == SIGMOID) each(x, r.count, [](V v) { return sigmoid(v); });
    else if (r.kind == SOFTPLUS) each(x, r.count, [](V v) { return softplus(v); });
    else if (r.kind == ONEPLUS) each(x, r.count, [](V v) { return 1.0f + softplus(v); });
    else if (r.kind == MASK) each(x, r.count, [](V v) { return 0.1f + 0.9f * sigmoid(v); });
    else if (r.kind == SOFTMAXES) for (Index g = 0; g < r.count; g += r.group) {
      float m = -INF, sum = 0.0f;
      for (Index i = 0; i < r.group; i++) m = std::max(m, x[g + i]);
      for (Index i = 0; i < r.group; i++) sum += x[g + i] = expf(x[g + i] - m);
      for (Index i = 0; i < r.group; i++) x[g + i] /= sum;
    }
  }
}
// d: gradients of what is squashed, which become those of what was not.
static void unsquash(const std::vector<Range>& ranges, const float* p, float* d) {
  for (const Range& r : ranges) {
    const float* y = p + r.start;
    float* g = d + r.start;
    for (Index i = 0; i < r.count; i++) {
      float a = y[i];
      if (r.kind == SIGMOID) g[i] *= a * (1.0f - a);
      else if (r.kind == SOFTPLUS) g[i] *= -expm1f(-a);
      else if (r.kind == ONEPLUS) g[i] *= -expm1f(1.0f - a);
      else if (r.kind == MASK) a = (a - 0.1f) / 0.9f, g[i] *= 0.9f * a * (1.0f - a);
    }
    if (r.kind == SOFTMAXES) for (Index s = 0; s < r.count; s += r.group) {
      float dot = 0.0f;
      for (Index i = 0; i < r.group; i++) dot += y[s + i] * g[s + i];
      for (Index i = 0; i < r.group; i++) g[s + i] = y[s + i] * (g[s + i] - dot);
    }
  }
}

// ---- sums over slots
static inline float dot(const float* a, const float* b, Index n) {
  V s{};
  for (Index j = 0; j < n; j += WIDTH) s += load(a + j) * load(b + j);
  return total(s);
}

// ---- maps from scores to weights; `n` slots of which `np` with padding, whose scores are -inf
enum Map { SOFTMAX, SPARSEMAX, ENTMAX15, SIGMOID_NORMALISED, RELU_NORMALISED, UNIFORM, HARDMAX, STRAIGHT_THROUGH };
struct Slots { Index n, np; };
static void weigh(int map, const float* x, float* y, Slots s) {
  V m = fill(-INF), bad{}, sum{};
  for (Index j = 0; j < s.np; j += WIDTH) m = larger(load(x + j), m);
  float top = highest(m);
  if (map == SOFTMAX) {
    for (Index j = 0; j < s.np; j += WIDTH) {
      V e = exp<false>(load(x + j) - top);
      sum += e;
      store(y + j, e);
    }
    float part = 1.0f / total(sum);
    for (Index j = 0; j < s.np; j += WIDTH) store(y + j, load(y + j) * part);
    return;
  }
  for (Index j = 0; j < s.np; j += WIDTH) bad += choose(load(x + j) == -INF, V{}, load(x + j)) * 0.0f;
  float fault = total(bad);  // NaN where a score is
  if (map == SPARSEMAX || map == ENTMAX15) {
    bool square = map == ENTMAX15;
    float scale = square ? 0.5f : 1.0f, t = -1.0f, before = 0.0f, S = 1.0f;
    for (int step = 0; step < 64; step++) {
      V sums{}, slopes{};
      for (Index j = 0; j < s.np; j += WIDTH) {
        V w = (load(x + j) - top) * scale - t, in = larger(w, V{});
        sums += square ? in * in : in;
        slopes += square ? in : choose(w > 0.0f, fill(1.0f), V{});
      }
      S = total(sums);
      float Q = total(slopes), next = t + (square ? (S - sqrtf(S)) / Q : (S - 1.0f) / Q);
      if (square ? !(S > 1.0000002f || S < 0.9999998f) || next == t : Q == before) {
        if (!square) t = next;
        break;
      }
      before = Q, t = next;
    }
    float part = square ? 1.0f / S : 1.0f;
    for (Index j = 0; j < s.np; j += WIDTH) {
      V in = larger((load(x + j) - top) * scale - t, V{});
      store(y + j, (square ? in * in * part : in) + fault);
    }
  } else if (map == SIGMOID_NORMALISED) {  // softmax of log sigmoid
    m = fill(-INF);
    for (Index j = 0; j < s.np; j += WIDTH) {
      V v = load(x + j), l = choose(v == -INF, v, -softplus(choose(v == -INF, V{}, -v)));
      m = larger(l, m);
      store(y + j, l);
    }
    top = highest(m);
    for (Index j = 0; j < s.np; j += WIDTH) {
      V e = exp<false>(load(y + j) - top);
      sum += e;
      store(y + j, e);
    }
    float part = 1.0f / total(sum);
    for (Index j = 0; j < s.np; j += WIDTH) store(y + j, load(y + j) * part);
  } else if (map == RELU_NORMALISED) {
    for (Index j = 0; j < s.np; j += WIDTH) store(y + j, larger(load(x + j), V{}) * (1.0f / s.n) + fault);
  } else {  // the same for all, or for all that are the largest
    for (Index j = 0; j < s.np; j += WIDTH) {
      V v = load(x + j), one = choose(map == UNIFORM ? v != -INF : v == top, fill(1.0f), V{});
      sum += one;
      store(y + j, one);
    }
    float part = 1.0f / total(sum);
    for (Index j = 0; j < s.np; j += WIDTH) store(y + j, load(y + j) * part + fault);
  }
  for (Index j = s.n; j < s.np; j++) y[j] = 0.0f;
}
// dx may be dy.
static void unweigh(int map, const float* x, const float* y, const float* dy, float* dx, Slots s, float* spare) {
  if (map == UNIFORM || map == HARDMAX) return clear(dx, s.np);
  if (map == STRAIGHT_THROUGH) weigh(SOFTMAX, x, spare, s), y = spare, map = SOFTMAX;
  V A{}, B{};
  if (map == SOFTMAX) {
    float mean = dot(y, dy, s.np);
    for (Index j = 0; j < s.np; j += WIDTH) store(dx + j, load(y + j) * (load(dy + j) - mean));
  } else if (map == SPARSEMAX || map == ENTMAX15) {
    auto slope = [&](V p) -> V { return map == ENTMAX15 ? root(p) : choose(p > 0.0f, fill(1.0f), p); };
    for (Index j = 0; j < s.np; j += WIDTH) {
      V q = slope(load(y + j));
      A += q * load(dy + j), B += q;
    }
    float mean = total(A) / total(B);
    for (Index j = 0; j < s.np; j += WIDTH) store(dx + j, slope(load(y + j)) * (load(dy + j) - mean));
  } else if (map == SIGMOID_NORMALISED) {
    float mean = dot(y, dy, s.np);
    for (Index j = 0; j < s.np; j += WIDTH) {
      V v = load(x + j);
      store(dx + j, load(y + j) * (load(dy + j) - mean) * sigmoid(choose(v == -INF, V{}, -v)));
    }
  } else {
    for (Index j = 0; j < s.np; j += WIDTH)
      store(dx + j, choose(load(x + j) > 0.0f, load(dy + j) * (1.0f / s.n), V{}));
  }
}

// ---- memory (width, slots)
static void look(const float* memory, const float* key, Index width, Index np, float* out) {  // out[n] = sum_m key[m] M[m][n]
  for (Index j = 0; j < np; j += 4 * WIDTH) {
    int vectors = (int)std::min<Index>(4, (np - j) / WIDTH);
    V s[4] = {};
    for (Index m = 0; m < width; m++)
      for (int v = 0; v < vectors; v++) s[v] += load(memory + m * np + j + v * WIDTH) * key[m];
    for (int v = 0; v < vectors; v++) store(out + j + v * WIDTH, s[v]);
  }
}
static void read(const float* memory, const float* weights, Index width, Index np, float* out) {
  for (Index m = 0; m < width; m++) out[m] = dot(memory + m * np, weights, np);
}
static void unread(const float* memory, const float* weights, const float* dread, Index width, Index np, float* dmemory, float* dweights) {
  for (Index j = 0; j < np; j += WIDTH) {
    V w = load(weights + j), dw = load(dweights + j);
    for (Index m = 0; m < width; m++) {
      float* d = dmemory + m * np + j;
      store(d, load(d) + w * dread[m]);
      dw += load(memory + m * np + j) * dread[m];
    }
    store(dweights + j, dw);
  }
}

// Content look-up of one head: similarity, 1 / norm of the slots, weights of the map. `mask` (width) or null.
struct Found { float *similarity, *inverse, *weights; };
static void find(int map, const float* memory, const float* key, const float* mask, float strength, Index width, Slots s, Found f, float* spare) {
  float square = EPSILON, masked[width];
  for (Index m = 0; m < width; m++) {
    float part = mask ? mask[m] * mask[m] : 1.0f;
    masked[m] = key[m] * part, square += key[m] * masked[m];
  }
  look(memory, masked, width, s.np, f.similarity);
  for (Index j = 0; j < s.np; j += WIDTH) {
    V n = fill(EPSILON), even{};
    if (mask) for (Index m = 0; m < width; m++) { V v = load(memory + m * s.np + j) * mask[m]; n += v * v; }
    else for (Index m = 0; m < width; m++) {
      V v = load(memory + m * s.np + j);
      m & 1 ? n += v * v : even += v * v;
    }
    V inverse = 1.0f / root(n + even), similarity = load(f.similarity + j) * inverse * (1.0f / sqrtf(square));
    store(f.inverse + j, inverse), store(f.similarity + j, similarity);
    store(spare + j, similarity * strength);
  }
  for (Index j = s.n; j < s.np; j++) spare[j] = -INF;
  weigh(map, spare, f.weights, s);
}
// dweights: of the weights found, is overwritten. Adds to the other gradients.
static void unfind(int map, const float* memory, const float* key, const float* mask, float strength, Index width, Slots s, Found f,
                   float* dweights, float* dmemory, float* dkey, float* dmask, float* dstrength, float* spare) {
  float square = EPSILON;
  for (Index m = 0; m < width; m++) square += key[m] * key[m] * (mask ? mask[m] * mask[m] : 1.0f);
  float inverse = 1.0f / sqrtf(square), *scores = spare, *more = spare + s.np;
  for (Index j = 0; j < s.np; j += WIDTH) store(scores + j, load(f.similarity + j) * strength);
  for (Index j = s.n; j < s.np; j++) scores[j] = -INF;
  unweigh(map, scores, f.weights, dweights, dweights, s, more);
  *dstrength += dot(dweights, f.similarity, s.np);
  // d similarity = d dot / (|k| |m|) - similarity (d|k|^2 / 2 |k|^2 + d|m|^2 / 2 |m|^2)
  V along{};
  float *pull = scores, *shrink = more;
  for (Index j = 0; j < s.np; j += WIDTH) {
    V d = load(dweights + j) * strength, i = load(f.inverse + j), both = d * load(f.similarity + j);
    along += both;
    store(pull + j, d * i * inverse);
    store(shrink + j, both * i * i);
  }
  float own = total(along) * inverse * inverse;
  for (Index m = 0; m < width; m++) {
    float part = mask ? mask[m] * mask[m] : 1.0f, masked = key[m] * part;
    const float* row = memory + m * s.np;
    float* to = dmemory + m * s.np;
    V sum{}, squares{};
    for (Index j = 0; j < s.np; j += WIDTH) {
      V v = load(row + j), p = load(pull + j), h = load(shrink + j);
      sum += p * v;
      if (mask) squares += h * v * v;
      store(to + j, load(to + j) + p * masked - h * v * part);
    }
    float product = total(sum);
    dkey[m] += part * (product - own * key[m]);
    if (mask) dmask[m] += mask[m] * (2.0f * key[m] * product - own * key[m] * key[m] - total(squares));
  }
}

// w = a^g / sum a^g; what is below TINY stays 0.
static void sharpen(const float* a, float sharpness, float* w, Index np) {
  V m{}, sum{};
  for (Index j = 0; j < np; j += WIDTH) m = larger(load(a + j), m);
  float top = highest(m);
  if (top < TINY) {
    for (Index j = 0; j < np; j += WIDTH) store(w + j, load(a + j) * 0.0f);
    return;
  }
  float most = logf(top);
  for (Index j = 0; j < np; j += WIDTH) {
    V v = load(a + j);
    V e = choose(v < TINY, V{}, exp<false>((log(larger(v, fill(TINY))) - most) * sharpness)) + v * 0.0f;
    sum += e;
    store(w + j, e);
  }
  float part = 1.0f / total(sum);
  for (Index j = 0; j < np; j += WIDTH) store(w + j, load(w + j) * part);
}
// da = sharpness w (dw - sum(w dw)) / a, and d sharpness. da may be dw.
static float unsharpen(const float* a, float sharpness, const float* w, const float* dw, float* da, Index np) {
  float mean = dot(w, dw, np);
  V sum{};
  for (Index j = 0; j < np; j += WIDTH) {
    V v = load(a + j), safe = larger(v, fill(TINY));
    V d = choose(v < TINY, V{}, load(w + j) * (load(dw + j) - mean));
    sum += d * log(safe);
    store(da + j, d * sharpness / safe);
  }
  return total(sum);
}

// memory (as it is) -> after all heads erased, then added. Rows of heads: weights (np), erase and added (width).
static void write(const float* memory, const float* weights, const float* erase, const float* added, Index heads, Index width, Index np, float* out) {
  for (Index m = 0; m < width; m++)
    for (Index j = 0; j < np; j += WIDTH) {
      V kept = fill(1.0f), sum{};
      for (Index h = 0; h < heads; h++) {
        V w = load(weights + h * np + j);
        kept *= 1.0f - w * erase[h * width + m];
        sum += w * added[h * width + m];
      }
      store(out + m * np + j, load(memory + m * np + j) * kept + sum);
    }
}
// dmemory: of the memory after, becomes that of the memory before. Adds to the others.
static void unwrite(const float* memory, const float* weights, const float* erase, const float* added, Index heads, Index width, Index np,
                    float* dmemory, float* dweights, float* derase, float* dadded) {
  for (Index m = 0; m < width; m++) {
    float* d = dmemory + m * np;
    const float* before = memory + m * np;
    for (Index h = 0; h < heads; h++) {
      float e = erase[h * width + m], a = added[h * width + m];
      V de{}, da{};
      for (Index j = 0; j < np; j += WIDTH) {
        V g = load(d + j), old = load(before + j), w = load(weights + h * np + j);
        for (Index other = 0; other < heads; other++)
          if (other != h) old *= 1.0f - load(weights + other * np + j) * erase[other * width + m];
        V pulled = g * old;
        de -= pulled * w, da += g * w;
        store(dweights + h * np + j, load(dweights + h * np + j) + g * a - pulled * e);
      }
      derase[h * width + m] += total(de), dadded[h * width + m] += total(da);
    }
    for (Index j = 0; j < np; j += WIDTH) {
      V kept = fill(1.0f);
      for (Index h = 0; h < heads; h++) kept *= 1.0f - load(weights + h * np + j) * erase[h * width + m];
      store(d + j, load(d + j) * kept);
    }
  }
}
