/* Ranks of one node; see nodes.h. */
#include "par/nodes.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/num.h"
#include "base/step.h"

#define TAG_COLLECT 79

/* What goes in one message: a leader has room for it, whatever happens. */
#define PART (UINT64_C(1) << 20)

/* What MPI has returned for a group of ranks. */
static sw_code check_split(sw_status *st)
{
    return SW_FAULT("node_split")
               ? sw_fail_mpi(st, SW_ECOMM, NULL, SW_LAYER_FAULT, "cannot split the ranks by nodes")
               : st->code;
}

/* Collective. The first ranks of several nodes. */
static sw_code find_leaders(const sw_comm *comm, sw_nodes *out, sw_status *st)
{
    sw_comm_split(comm, sw_nodes_lead(out) ? 0 : 1, &out->leaders, st);
    check_split(st);
    out->n = sw_nodes_lead(out) ? (uint64_t)out->leaders.size : 0;
    /* alone there is nobody to ask */
    if (out->mates.size == 1)
        sw_comm_mpi_release(&out->mates);
    return sw_agree_most(comm, &out->n, 1, st);
}

void sw_nodes_none(const sw_comm *comm, sw_nodes *out)
{
    *out = (sw_nodes){ .mates = sw_comm_self(), .leaders = *comm };
}

sw_code sw_nodes_find(const sw_comm *comm, sw_nodes *out, sw_status *st)
{
    uint64_t several;

    sw_nodes_none(comm, out);
    if (comm->size == 1 || !sw_comm_layer(comm))
        return st->code;
    out->own = true;
    out->n = 1;
    out->leaders = sw_comm_self();
    sw_comm_split_node(comm, &out->mates, st);
    check_split(st);
    if (sw_nodes_lead(out) && SW_FAULT("node_room"))
        sw_fail_nomem(st, PART);
    else if (sw_nodes_lead(out))
        out->room = sw_calloc(PART, 1, st);
    several = out->mates.size < comm->size;
    if (sw_agree_most(comm, &several, 1, st) || !several)
        return st->code;
    return find_leaders(comm, out, st);
}

void sw_nodes_release(sw_nodes *nodes)
{
    if (nodes->own) {
        sw_comm_mpi_release(&nodes->mates);
        sw_comm_mpi_release(&nodes->leaders);
    }
    free(nodes->room);
    *nodes = (sw_nodes){ .mates = sw_comm_self(), .leaders = sw_comm_self() };
}

/* ---- collecting ------------------------------------------------------------------------------ */

/* To the first rank of the node. */
static sw_code send_bytes(const sw_comm *mates, const void *data, uint64_t n, sw_status *st)
{
    const sw_layer *layer = sw_comm_layer(mates);
    sw_handle request = 0;
    int err;

    sw_step_wait();
    err = layer->send(sw_comm_handle(mates), data, (int)n, 0, TAG_COLLECT, &request);
    if (!err)
        err = layer->finish(&request, NULL);
    if (SW_FAULT("node_send"))
        err = SW_LAYER_FAULT;
    return sw_comm_waited(err) ? sw_comm_broken(mates, st) : SW_OK;
}

/* How long they are, then their bytes. */
static void give(const sw_comm *mates, sw_buf *const *mine, size_t n, sw_status *st)
{
    uint64_t lengths[SW_COLLECT_MAX + 1] = { 0 };

    for (size_t i = 0; i < n && !st->code; i++)
        lengths[i] = mine[i]->len;
    lengths[n] = st->code != SW_OK;
    send_bytes(mates, lengths, sizeof lengths, st);
    for (size_t i = 0; i < n; i++) {
        for (uint64_t at = 0; at < lengths[i] && st->code != SW_ECOMM; at += PART)
            send_bytes(mates, mine[i]->data + at, sw_min(PART, lengths[i] - at), st);
        sw_buf_release(mine[i]);
    }
}

/* From a rank of the node, exactly so many. */
static sw_code receive_bytes(const sw_comm *mates, int from, void *data, uint64_t n, sw_status *st)
{
    int err, got = 0;

    sw_step_wait();
    err = sw_comm_layer(mates)->receive(sw_comm_handle(mates), data, (int)n, from, TAG_COLLECT, &got);
    if (SW_FAULT("node_receive"))
        err = SW_LAYER_FAULT;
    return sw_comm_waited(err) || (uint64_t)got != n ? sw_comm_broken(mates, st) : SW_OK;
}

/* Into room first: what cannot be kept is received all the same. */
static void receive(const sw_comm *mates, int from, char *room, sw_buf *got, size_t n, sw_status *st)
{
    uint64_t lengths[SW_COLLECT_MAX + 1];

    if (receive_bytes(mates, from, lengths, sizeof lengths, st) == SW_ECOMM)
        return;
    if (lengths[n])
        sw_fail(st, SW_ENOMEM, NULL, NULL, "out of memory on another rank of this node");
    for (size_t i = 0; i < n; i++) {
        got[i].len = 0;
        if (!st->code && SW_FAULT("node_keep"))
            sw_fail_nomem(st, lengths[i]);
        if (!st->code)
            sw_buf_reserve(&got[i], lengths[i], st);
        for (uint64_t at = 0, part; at < lengths[i] && st->code != SW_ECOMM; at += part) {
            part = sw_min(PART, lengths[i] - at);
            if (receive_bytes(mates, from, room, part, st) != SW_ECOMM && !st->code)
                sw_buf_add(&got[i], room, part, st);
        }
    }
}

sw_code sw_nodes_collect(const sw_nodes *nodes, sw_buf *const *mine, size_t n, sw_collect_fn take, void *ctx,
                         sw_status *st)
{
    sw_buf got[SW_COLLECT_MAX] = { SW_BUF_INIT, SW_BUF_INIT };
    const sw_comm *mates = &nodes->mates;

    if (mates->size > 1 && !sw_nodes_lead(nodes))
        give(mates, mine, n, st);
    for (int r = 1; sw_nodes_lead(nodes) && r < mates->size && st->code != SW_ECOMM; r++) {
        receive(mates, r, nodes->room, got, n, st);
        if (!st->code)
            take(ctx, got, st);
    }
    for (size_t i = 0; i < n; i++)
        sw_buf_release(&got[i]);
    return st->code;
}

/* ---- memory of a node ------------------------------------------------------------------------ */

sw_code sw_share_new(const sw_nodes *nodes, uint64_t n, sw_share *out, sw_status *st)
{
    const sw_layer *layer = sw_comm_layer(&nodes->mates);
    bool leads = sw_nodes_lead(nodes);
    void *mine = NULL;
    uint64_t cannot;
    int64_t size = 0;
    int err;

    *out = (sw_share){ 0 };
    if (nodes->mates.size == 1) {
        out->data = SW_FAULT("node_share") ? NULL : calloc(1, (size_t)n);
        size = (int64_t)n;
        err = out->data ? 0 : SW_LAYER_NOMEM;
    } else {
        sw_step_wait();
        err = sw_comm_waited(
            layer->share(sw_comm_handle(&nodes->mates), leads ? (int64_t)n : 0, &mine, &out->handle));
        if (!err)
            err = SW_FAULT("node_share") ? SW_LAYER_FAULT : layer->shared(out->handle, 0, &out->data, &size);
    }
    out->size = (uint64_t)size;
    cannot = err != 0;
    /* to free it takes all: what one of them lacks stays until the end of MPI */
    if (sw_agree_most(&nodes->mates, &cannot, 1, st) || cannot)
        *out = (sw_share){ 0 };
    return st->code;
}

sw_code sw_share_show(const sw_share *share, sw_status *st)
{
    int err;

    if (!share->handle)
        return SW_OK;
    sw_step_wait();
    err = sw_comm_waited(sw_layer_here()->share_sync(share->handle));
    if (SW_FAULT("node_sync"))
        err = SW_LAYER_FAULT;
    return err ? sw_fail_mpi(st, SW_ECOMM, NULL, err, "cannot share memory on the node") : SW_OK;
}

void sw_share_end(sw_share *share, bool broken)
{
    if (!share->handle)
        free(share->data);
    else if (!broken)
        sw_layer_here()->unshare(&share->handle);
    *share = (sw_share){ 0 };
}

void sw_shares_end(sw_shares *shares, bool broken)
{
    sw_share_end(&shares->boxes, broken);
    sw_share_end(&shares->files, broken);
    sw_nodes_release(&shares->nodes);
}
