/* Keys and values of a prompt are shared by its texts. Those of new tokens are stored by step and
 * text; as beams change places, what is copied is not them but the list of texts that a text's
 * history is made of. */
#include "model/decoder.h"

#include "base/memory.h"
#include "base/report.h"
#include "math/row.h"

#include <string.h>

/* [tokens, hidden] each, of one block. */
struct cache {
    float *prompt_key, *prompt_value; /* [prompt tokens, hidden] */
    float *key, *value;               /* [max_new_tokens, texts, hidden] */
};

struct decoder {
    const struct stage *stage;
    struct decoder_options options;
    size_t num_texts;
    struct cache *caches;    /* [blocks] */
    size_t *prompt_offsets;  /* [num_prompts + 1] */
    size_t step;             /* new tokens so far */
    size_t *lineage, *older; /* [texts, max_new_tokens]: the text that holds a step's token */
    float *normalized, *deviation, *query, *context, *branch, *wide, *scores;
    struct linear_scratch scratch;
    float *low_rank; /* h of the projection at work */
};

static float *room(size_t floats) {
    return memory_allocate(floats, sizeof(float), "the decoder");
}

static void open_caches(struct decoder *decoder) {
    const struct stage_options *stage = &decoder->stage->options;
    const size_t hidden = stage->architecture.hidden_size;
    const size_t prompt = decoder->options.prompt_tokens * hidden;
    const size_t grown = decoder->options.max_new_tokens * decoder->num_texts * hidden;
    decoder->caches = memory_allocate(stage->num_blocks, sizeof *decoder->caches, "the decoder");
    for (size_t b = 0; b < stage->num_blocks; ++b)
        decoder->caches[b] = (struct cache){room(prompt), room(prompt), room(grown), room(grown)};
}

struct decoder *decoder_create(const struct stage *stage, const struct decoder_options *options) {
    const struct architecture *architecture = &stage->options.architecture;
    FAULT_UNLESS(architecture_is_causal(architecture) && architecture_is_pre_norm(architecture),
                 "a decoder of a %s model", model_family_name(architecture->family));
    struct decoder *decoder = memory_allocate(1, sizeof *decoder, "the decoder");
    const size_t texts = options->num_prompts * options->num_beams;
    const size_t hidden = texts * architecture->hidden_size;
    const size_t wide = texts * architecture->intermediate_size;
    const size_t length = options->prompt_tokens + options->max_new_tokens;
    const size_t lineage = texts * options->max_new_tokens;
    *decoder = (struct decoder){
        .stage = stage,
        .options = *options,
        .num_texts = texts,
        .prompt_offsets = memory_allocate(options->num_prompts + 1, sizeof(size_t), "the decoder"),
        .lineage = memory_allocate(lineage, sizeof(size_t), "the decoder"),
        .older = memory_allocate(lineage, sizeof(size_t), "the decoder"),
        .normalized = room(hidden),
        .deviation = room(texts),
        .query = room(hidden),
        .context = room(hidden),
        .branch = room(hidden),
        .wide = room(wide),
        .scores = room(texts * architecture->num_attention_heads * length),
        .scratch = {.low_rank = room(texts * stage->largest_rank), .wide = room(wide + hidden)},
        .low_rank = room(texts * stage->largest_rank),
    };
    open_caches(decoder);
    return decoder;
}

void decoder_destroy(struct decoder **decoder) {
    struct decoder *d = *decoder;
    if (d == NULL)
        return;
    for (size_t b = 0; b < d->stage->options.num_blocks; ++b) {
        memory_free(d->caches[b].prompt_key);
        memory_free(d->caches[b].prompt_value);
        memory_free(d->caches[b].key);
        memory_free(d->caches[b].value);
    }
    memory_free(d->caches);
    memory_free(d->prompt_offsets);
    memory_free(d->lineage);
    memory_free(d->older);
    float *const owned[] = {d->normalized,   d->deviation, d->query,  d->context,
                            d->branch,       d->wide,      d->scores, d->scratch.low_rank,
                            d->scratch.wide, d->low_rank};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; ++i)
        memory_free(owned[i]);
    memory_free(d);
    *decoder = NULL;
}

void decoder_start(struct decoder *decoder, const struct microbatch *prompts, struct slot *slot) {
    const struct stage_options *stage = &decoder->stage->options;
    const size_t hidden = stage->architecture.hidden_size;
    FAULT_UNLESS(prompts->num_sequences <= decoder->options.num_prompts &&
                     prompts->num_tokens <= decoder->options.prompt_tokens,
                 "%zu prompts of %zu tokens", prompts->num_sequences, prompts->num_tokens);
    decoder->step = 0;
    memcpy(decoder->prompt_offsets, prompts->offsets,
           (prompts->num_sequences + 1) * sizeof *prompts->offsets);
    for (size_t b = 0; b < stage->num_blocks; ++b) {
        const size_t bytes = prompts->num_tokens * hidden * sizeof(float);
        memcpy(decoder->caches[b].prompt_key, slot_key(slot, b), bytes);
        memcpy(decoder->caches[b].prompt_value, slot_value(slot, b), bytes);
    }
}

static void update_lineage(struct decoder *decoder, const struct decoder_rows *rows) {
    const size_t most = decoder->options.max_new_tokens, step = decoder->step;
    FAULT_UNLESS(step < most, "step %zu of %zu", step, most);
    memcpy(decoder->older, decoder->lineage, decoder->num_texts * most * sizeof(size_t));
    for (size_t r = 0; r < rows->count; ++r) {
        const size_t text = rows->texts[r];
        if (step > 0)
            memcpy(decoder->lineage + text * most, decoder->older + rows->parents[r] * most,
                   step * sizeof(size_t));
        decoder->lineage[text * most + step] = text;
    }
}

static size_t prompt_of(const struct decoder *decoder, size_t text) {
    return text / decoder->options.num_beams;
}

static void embed(const struct decoder *decoder, const struct point *point,
                  const struct decoder_rows *rows, float *x) {
    const struct embedding *embedding = &decoder->stage->embedding;
    const size_t width = decoder->stage->options.architecture.hidden_size;
    const float *words = base_values(embedding->words, point);
    const float *places = base_values(embedding->positions, point);
    for (size_t r = 0; r < rows->count; ++r) {
        const size_t prompt = prompt_of(decoder, rows->texts[r]);
        const size_t position =
            decoder->prompt_offsets[prompt + 1] - decoder->prompt_offsets[prompt] + decoder->step;
        const float *word = words + (size_t)rows->tokens[r] * width;
        const float *place = places + position * width;
#pragma omp simd
        for (size_t j = 0; j < width; ++j)
            x[r * width + j] = word[j] + place[j];
    }
}

static void project(struct decoder *decoder, const struct block *block, const struct point *point,
                    enum projection which, const float *x, size_t rows, float *y) {
    const struct dropout none = {0};
    linear_forward(&block->projections[which], point, x, rows, &none, &decoder->scratch,
                   decoder->low_rank, y);
}

static void add_scaled(float factor, const float *x, size_t count, float *y) {
#pragma omp simd
    for (size_t i = 0; i < count; ++i)
        y[i] += factor * x[i];
}

/* One head of one text: `at` is its first element in a row. */
static void attend(const struct decoder *decoder, const struct cache *cache,
                   const struct attention *attention, size_t text, size_t at, const float *query,
                   float *scores, float *context) {
    const size_t width = attention->num_heads * attention->head_size, size = attention->head_size;
    const size_t prompt = prompt_of(decoder, text);
    const size_t first = decoder->prompt_offsets[prompt];
    const size_t length = decoder->prompt_offsets[prompt + 1] - first, step = decoder->step;
    const size_t *lineage = decoder->lineage + text * decoder->options.max_new_tokens;
    for (size_t i = 0; i < length; ++i)
        scores[i] =
            attention->scale * row_dot(query, cache->prompt_key + (first + i) * width + at, size);
    for (size_t s = 0; s <= step; ++s)
        scores[length + s] =
            attention->scale *
            row_dot(query, cache->key + (s * decoder->num_texts + lineage[s]) * width + at, size);
    row_softmax(scores, length + step + 1);
    memset(context, 0, size * sizeof *context);
    for (size_t i = 0; i < length; ++i)
        add_scaled(scores[i], cache->prompt_value + (first + i) * width + at, size, context);
    for (size_t s = 0; s <= step; ++s)
        add_scaled(scores[length + s],
                   cache->value + (s * decoder->num_texts + lineage[s]) * width + at, size,
                   context);
}

static void attend_all(struct decoder *decoder, const struct cache *cache,
                       const struct attention *attention, const struct decoder_rows *rows) {
    const size_t heads = attention->num_heads, width = heads * attention->head_size;
    const size_t length = decoder->options.prompt_tokens + decoder->options.max_new_tokens;
#pragma omp parallel for schedule(static)
    for (size_t task = 0; task < rows->count * heads; ++task) {
        const size_t r = task / heads, at = task % heads * attention->head_size;
        attend(decoder, cache, attention, rows->texts[r], at, decoder->query + r * width + at,
               decoder->scores + task * length, decoder->context + r * width + at);
    }
}

/* New keys and values into the cache of this step. */
static void keep(const struct decoder *decoder, const struct decoder_rows *rows, const float *new,
                 float *cache) {
    const size_t width = decoder->stage->options.architecture.hidden_size;
    for (size_t r = 0; r < rows->count; ++r)
        memcpy(cache + (decoder->step * decoder->num_texts + rows->texts[r]) * width,
               new + r *width, width * sizeof *cache);
}

static void normalize(struct decoder *decoder, const struct block *block, const struct point *point,
                      enum block_half half, size_t rows, const float *x) {
    layer_norm_forward(x, base_values(block->norms[half].weight, point),
                       base_values(block->norms[half].bias, point), block->layer_norm_epsilon, rows,
                       block->hidden_size, decoder->context, decoder->deviation,
                       decoder->normalized);
}

static void squeeze(struct decoder *decoder, const struct block *block, const struct point *point,
                    enum block_half half, size_t rows) {
    if (block->bottlenecks[half].size > 0)
        bottleneck_forward(&block->bottlenecks[half], point, rows, decoder->scratch.low_rank,
                           decoder->low_rank, decoder->branch);
}

static void step_block(struct decoder *decoder, const struct block *block, struct cache *cache,
                       const struct point *point, const struct decoder_rows *rows, float *x) {
    const size_t count = rows->count, hidden = count * block->hidden_size;
    const float *n = decoder->normalized;
    normalize(decoder, block, point, HALF_ATTENTION, count, x);
    project(decoder, block, point, PROJECTION_KEY, n, count, decoder->branch);
    keep(decoder, rows, decoder->branch, cache->key);
    project(decoder, block, point, PROJECTION_VALUE, n, count, decoder->branch);
    keep(decoder, rows, decoder->branch, cache->value);
    project(decoder, block, point, PROJECTION_QUERY, n, count, decoder->query);
    attend_all(decoder, cache, &block->attention, rows);
    project(decoder, block, point, PROJECTION_ATTENTION_OUTPUT, decoder->context, count,
            decoder->branch);
    squeeze(decoder, block, point, HALF_ATTENTION, count);
    vector_add(decoder->branch, hidden, x);

    normalize(decoder, block, point, HALF_FEED_FORWARD, count, x);
    project(decoder, block, point, PROJECTION_INTERMEDIATE, n, count, decoder->wide);
    activation_forward(block->activation, decoder->wide, count * block->intermediate_size,
                       decoder->wide);
    project(decoder, block, point, PROJECTION_OUTPUT, decoder->wide, count, decoder->branch);
    squeeze(decoder, block, point, HALF_FEED_FORWARD, count);
    vector_add(decoder->branch, hidden, x);
}

void decoder_step(struct decoder *decoder, const struct point *point,
                  const struct decoder_rows *rows, float *x) {
    const struct stage *stage = decoder->stage;
    update_lineage(decoder, rows);
    if (stage->options.has_embedding)
        embed(decoder, point, rows, x);
    for (size_t b = 0; b < stage->options.num_blocks; ++b)
        step_block(decoder, &stage->blocks[b], &decoder->caches[b], point, rows, x);
    ++decoder->step;
}
