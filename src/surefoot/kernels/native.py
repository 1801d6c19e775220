"""The compiled functions beside the rules' kernels. Numba compiles them; read as Python they say what they do.

All arguments are integers: numbers, or addresses of arrays of 64-bit integers and floats.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from numba import float64

from surefoot.kernels.intrinsics import (
    call,
    load_float32,
    load_float64,
    load_int64,
    store_float32,
    store_float64,
    store_int64,
)

CURRENT, MIXED, STALE = 0, 1, 2


def gather(
    functions,  # addresses of PyList_GetItem, PyDict_Next, PyDict_GetItem and of a tensor's data_ptr
    result,  # where the result goes; three numbers of working memory follow
    params,  # the list of all parameters as they are now, and what it should hold
    known_params,
    number_of_params,
    state,  # the dict of states, and the keys and values that it should hold, in turns and with a 0 at the end
    known_state,
    grads,  # the list of the rows' gradients, or the stand-ins of those that have none
    stand_ins,
    rows,
    entries,  # a dict for each row, the keys to look up, and the objects to find: parameter, counters, buffers
    keys,
    objects,
    counters,
    buffers,
    pointers,  # of parameter, gradient and buffers; of the counters; and what the counters say
    counter_pointers,
    counts,
    fresh,
    wide,
):
    """Look at a table's Python objects: are they those it was made of, and where are the gradients now?

    The result is CURRENT if all rows that have a gradient have the same counts, MIXED if not, and STALE if
    anything is not what it was.
    """
    store_int64(result, 0, STALE)
    get_item, next_item, look_up, data_ptr = (
        load_int64(functions, 0),
        load_int64(functions, 1),
        load_int64(functions, 2),
        load_int64(functions, 3),
    )
    for i in range(number_of_params):
        if call(get_item, params, i, 0, 0) != load_int64(known_params, i):
            return 0
    position, key, value = result + 8, result + 16, result + 24
    store_int64(position, 0, 0)
    n = 0
    while call(next_item, state, position, key, value) & 0xFFFFFFFF:  # it returns a 32-bit truth
        if load_int64(key, 0) != load_int64(known_state, 2 * n):
            return 0
        if load_int64(value, 0) != load_int64(known_state, 2 * n + 1):
            return 0
        n += 1
    if load_int64(known_state, 2 * n) != 0:
        return 0
    first, status = -1, CURRENT
    for row in range(rows):
        base = objects + 8 * row * (1 + counters + buffers)
        place = pointers + 8 * row * (2 + buffers)
        entry = load_int64(entries, row)
        for j in range(1, 1 + counters + buffers):
            known = load_int64(base, j)
            if known != 0 and call(look_up, entry, load_int64(keys, j - 1), 0, 0) != known:
                return 0
        if call(data_ptr, load_int64(base, 0), 0, 0, 0) != load_int64(place, 0):
            return 0
        for j in range(buffers):
            known = load_int64(base, 1 + counters + j)
            if known != 0 and call(data_ptr, known, 0, 0, 0) != load_int64(place, 2 + j):
                return 0
        grad = call(get_item, grads, row, 0, 0)
        if grad == load_int64(stand_ins, row):
            store_int64(place, 1, 0)
            continue
        store_int64(place, 1, call(data_ptr, grad, 0, 0, 0))
        for j in range(counters):
            pointer = call(data_ptr, load_int64(base, 1 + j), 0, 0, 0)
            store_int64(counter_pointers, row * counters + j, pointer)
            count = load_float64(pointer, 0) if wide else float64(load_float32(pointer, 0))
            store_float64(counts, row * counters + j, count)
            if first >= 0 and count != load_float64(counts, first * counters + j):
                status = MIXED
        if first >= 0 and load_int64(fresh, row) != load_int64(fresh, first):
            status = MIXED
        if first < 0:
            first = row
    store_int64(result, 0, status)
    return 0


def count(pointers, width, rows, counter_pointers, counters, wide, which, values, fresh):
    """Write each row's new counts, the ``which``-th of ``values``, if it has a gradient."""
    for row in range(rows):
        if load_int64(pointers, row * width + 1) == 0:
            continue
        store_int64(fresh, row, 0)
        for j in range(counters):
            pointer = load_int64(counter_pointers, row * counters + j)
            value = load_float64(values, load_int64(which, row) * counters + j)
            if wide:
                store_float64(pointer, 0, value)
            else:
                store_float32(pointer, 0, value)
    return 0
