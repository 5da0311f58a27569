/* The hypergradient. Everything is computed for q first; the chain rule to the logits comes last,
 * where the selection does not move, so that it is linear. */
#include "train/hypergradient.h"

#include "base/memory.h"
#include "model/selection.h"

#include <string.h>

struct hypergradient {
    struct pipeline *pipeline;
    enum hypergradient_kind kind;
    enum selection_constraint constraint;
    double entropy_weight;
    struct gradient validation; /* v, and the first-order term */
    struct gradient train;      /* scratch for passes on the training batch */
    float *moved;               /* W +- e v */
    float *second;              /* second-order term in q */
};

/* e = RADIUS / ||v||: DARTS's choice, kept by the paper. */
static const double RADIUS = 0.01;

struct hypergradient *hypergradient_create(struct pipeline *pipeline, enum hypergradient_kind kind,
                                           int constraint, double entropy_weight) {
    struct hypergradient *h = memory_allocate(1, sizeof *h, "the hypergradient");
    const struct stage *stage = pipeline_stage(pipeline);
    const size_t factors = stage->factors.size, selection = stage->selection_size;
    h->pipeline = pipeline;
    h->kind = kind;
    h->constraint = (enum selection_constraint)constraint;
    h->entropy_weight = entropy_weight;
    h->validation.factors = memory_allocate(factors, sizeof(float), "the hypergradient");
    h->validation.selection = memory_allocate(selection, sizeof(float), "the hypergradient");
    h->train.factors = memory_allocate(factors, sizeof(float), "the hypergradient");
    h->train.selection = memory_allocate(selection, sizeof(float), "the hypergradient");
    h->moved = memory_allocate(factors, sizeof(float), "the hypergradient");
    h->second = memory_allocate(selection, sizeof(float), "the hypergradient");
    return h;
}

void hypergradient_destroy(struct hypergradient **hypergradient) {
    struct hypergradient *h = *hypergradient;
    if (h == NULL)
        return;
    memory_free(h->validation.factors);
    memory_free(h->validation.selection);
    memory_free(h->train.factors);
    memory_free(h->train.selection);
    memory_free(h->moved);
    memory_free(h->second);
    memory_free(h);
    *hypergradient = NULL;
}

/* pipeline_gradient, measured as `name`. */
static double gradient_of(struct hypergradient *h, const char *name, const struct point *point,
                          const struct batch *batch, bool keep, struct gradient *gradient) {
    struct timer_tree *timers = pipeline_timers(h->pipeline);
    timer_start(timers, name);
    const double loss = pipeline_gradient(h->pipeline, point, batch, keep, gradient);
    timer_stop(timers);
    return loss;
}

static void exact_term(struct hypergradient *h, const struct hypergradient_request *request) {
    const struct point point = {request->point, request->selection};
    if (!request->is_kept)
        gradient_of(h, "train_gradient", &point, request->train, true, &h->train);
    struct timer_tree *timers = pipeline_timers(h->pipeline);
    timer_start(timers, "tangent");
    pipeline_tangent(h->pipeline, &point, h->validation.factors, request->train, h->second);
    timer_stop(timers);
}

/* d loss / d q at point + step v. */
static void gradient_at(struct hypergradient *h, const struct hypergradient_request *request,
                        double step) {
    const size_t size = pipeline_stage(h->pipeline)->factors.size;
    for (size_t i = 0; i < size; ++i)
        h->moved[i] = request->point[i] + (float)step * h->validation.factors[i];
    const struct point point = {h->moved, request->selection};
    gradient_of(h, "train_gradient", &point, request->train, false, &h->train);
}

static void finite_difference_term(struct hypergradient *h,
                                   const struct hypergradient_request *request) {
    const size_t size = pipeline_stage(h->pipeline)->selection_size;
    const double norm = pipeline_norm(h->pipeline, h->validation.factors);
    if (norm == 0) {
        memset(h->second, 0, size * sizeof(float));
        return;
    }
    const double step = RADIUS / norm;
    gradient_at(h, request, step);
    memcpy(h->second, h->train.selection, size * sizeof(float));
    gradient_at(h, request, -step);
    for (size_t i = 0; i < size; ++i)
        h->second[i] = (float)(((double)h->second[i] - h->train.selection[i]) / (2 * step));
}

double hypergradient_compute(struct hypergradient *h, const struct hypergradient_request *request,
                             float *d_logits) {
    const struct stage *stage = pipeline_stage(h->pipeline);
    const struct point lookahead = {request->lookahead, request->selection};
    const double loss = gradient_of(h, "validation_gradient", &lookahead, request->validation,
                                    false, &h->validation);
    if (h->kind == HYPERGRADIENT_FIRST_ORDER)
        memset(h->second, 0, stage->selection_size * sizeof(float));
    else if (h->kind == HYPERGRADIENT_EXACT)
        exact_term(h, request);
    else
        finite_difference_term(h, request);
    for (size_t i = 0; i < stage->selection_size; ++i)
        d_logits[i] = h->validation.selection[i] - (float)(request->coefficient * h->second[i]);
    const size_t k = stage->options.adapters.num_components;
    selection_add_entropy_gradient(h->entropy_weight, request->selection, stage->num_modules, k,
                                   d_logits);
    selection_backward(h->constraint, request->selection, d_logits, stage->num_modules, k,
                       d_logits);
    return loss;
}
