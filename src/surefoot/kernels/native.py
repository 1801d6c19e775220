"""The compiled functions beside the rules' kernels. Numba compiles them; read as Python they say what they do.

All arguments are integers: numbers, or addresses of arrays of 64-bit integers and floats.
"""

from numba import float64

from surefoot.kernels.intrinsics import (
    call,
    exchange,
    fetch,
    fetch_add,
    load_float32,
    load_float64,
    load_int64,
    store_float32,
    store_float64,
    store_int64,
)

SAME, REVALUED, OTHER = 0, 1, 2


def recognise(
    functions,  # addresses of PyList_GetItem, PyDict_Next, PyList_Size
    result,  # a number for the result, and three to work with
    known,  # for each group: the dict, its list of parameters, the number of entries, key and value of each (0
    # where any will do), the number of parameters, each of them
    number_of_groups,
    groups,  # the list of all groups of now
):
    """Look at parameter groups: are they those that were noted?

    The result is SAME, REVALUED if at most values of entries differ, and OTHER if there may be other parameters.
    """
    store_int64(result, 0, OTHER)
    get_item, next_item, size = load_int64(functions, 0), load_int64(functions, 1), load_int64(functions, 2)
    position, key, value = result + 8, result + 16, result + 24
    if call(size, groups, 0, 0, 0) != number_of_groups:
        return 0
    status = SAME
    for i in range(number_of_groups):
        group, params, entries = load_int64(known, 0), load_int64(known, 1), load_int64(known, 2)
        if call(get_item, groups, i, 0, 0) != group:
            return 0
        known += 24
        store_int64(position, 0, 0)
        while call(next_item, group, position, key, value) & 0xFFFFFFFF:  # it returns a 32-bit truth
            if entries == 0 or load_int64(key, 0) != load_int64(known, 0):
                return 0
            expected = load_int64(known, 1)
            if expected != 0 and load_int64(value, 0) != expected:
                if expected == params:
                    return 0
                status = REVALUED
            entries -= 1
            known += 16
        number = load_int64(known, 0)
        if entries != 0 or call(size, params, 0, 0, 0) != number:
            return 0
        for j in range(number):
            if call(get_item, params, j, 0, 0) != load_int64(known, 1 + j):
                return 0
        known += 8 * (1 + number)
    store_int64(result, 0, status)
    return 0


CURRENT, MIXED, STALE = 0, 1, 2


def gather(
    functions,  # addresses of PyList_GetItem, PyDict_Next, PyDict_GetItem and of what gives a tensor's address
    result,  # four numbers for the result, and three to work with
    known_state,  # what state should hold, keys and values in turns, and a 0 at the end
    stand_ins,  # what stands in grads for a gradient that is missing
    rows,
    entries,  # for each row its state, a dict
    keys,  # what to look up in it: counters, then buffers
    counters,
    buffers,
    objects,  # for each row what should be found: parameter, counters, buffers; 0 where it has none
    pointers,  # for each row the addresses of parameter, gradient and buffers
    counter_pointers,
    counts,  # what is at counter_pointers
    fresh,  # for each row whether its buffers are new
    wide,  # whether counters are of 64 bits
    trusted,  # whether nobody can have changed the state
    state,  # the dict of all states of now
    grads,  # the list of the rows' gradients of now
):
    """Look at Python's objects: are they those the table was made of, and where are the gradients?

    The result is CURRENT if all rows that have a gradient have the same counts, MIXED if not, and STALE if
    anything is not what it was; the first row that has a gradient; how many there are; and whether nobody else
    holds any part of the state.
    """
    store_int64(result, 0, STALE)
    get_item, next_item, look_up, data_ptr = (
        load_int64(functions, 0),
        load_int64(functions, 1),
        load_int64(functions, 2),
        load_int64(functions, 3),
    )
    alone = 1
    if not trusted:
        position, key, value = result + 32, result + 40, result + 48
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
        for row in range(rows):
            base = objects + 8 * row * (1 + counters + buffers)
            entry = load_int64(entries, row)
            # An object starts with the number of its owners: the dict that it is in, and the table, a tensor twice.
            alone &= load_int64(entry, 0) <= 2
            for j in range(1, 1 + counters + buffers):
                known = load_int64(base, j)
                if known == 0:
                    continue
                if call(look_up, entry, load_int64(keys, j - 1), 0, 0) != known:
                    return 0
                alone &= load_int64(known, 0) <= 3
                pointer = call(data_ptr, known, 0, 0, 0)
                if j > counters:
                    if pointer != load_int64(pointers, row * (2 + buffers) + j - counters + 1):
                        return 0
                else:
                    store_int64(counter_pointers, row * counters + j - 1, pointer)
    first, present, status = -1, 0, CURRENT
    for row in range(rows):
        place = pointers + 8 * row * (2 + buffers)
        param = load_int64(objects, row * (1 + counters + buffers))
        if call(data_ptr, param, 0, 0, 0) != load_int64(place, 0):
            return 0
        grad = call(get_item, grads, row, 0, 0)
        if grad == load_int64(stand_ins, row):
            store_int64(place, 1, 0)
            continue
        start = call(data_ptr, grad, 0, 0, 0)
        store_int64(
            place, 1, start if start != 0 else 1
        )  # 0 means that there is none; this one has no elements
        present += 1
        if first < 0:
            first = row
        for j in range(counters):
            pointer = load_int64(
                counter_pointers, row * counters + j
            )  # a view of it may have been written to
            count = load_float64(pointer, 0) if wide else float64(load_float32(pointer, 0))
            store_float64(counts, row * counters + j, count)
            if count != load_float64(counts, first * counters + j):
                status = MIXED
        if load_int64(fresh, row) != load_int64(fresh, first):
            status = MIXED
    store_int64(result, 0, status)
    store_int64(result, 1, first)
    store_int64(result, 2, present)
    store_int64(result, 3, alone)
    return 0


def count(rows, counters, buffers, pointers, counter_pointers, fresh, wide, which, values):
    """Write each row's new counts, the ``which``-th of ``values``, if it has a gradient."""
    for row in range(rows):
        if load_int64(pointers, row * (2 + buffers) + 1) == 0:
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


# A board for threads to meet at. Each number has a cache line of its own.
JOB, FUNCTION, ARGUMENTS, INSIDE, JOBS, BUSY = 0, 64, 128, 192, 256, 320

SPINS = 20_000
"""Looks at the board before a helper sleeps: the kernel of another layout may be next."""


def help_out(board, asleep, lock, acquire_lock, unread):
    """What a helper does, for good: wait for a job on the board, go inside, work, go out.

    No job waits for a helper to come, only for those inside to go out.
    """
    done, spins, job = 0, 0, 0
    while job >= 0:  # as all jobs are
        job = fetch(board + JOB, 0)
        if job == 0 or job == done:
            spins += 1
            if spins > SPINS:
                exchange(asleep, 1)
                call(acquire_lock, lock, 1, 0, 0)
                spins = 0
            continue
        fetch_add(board + INSIDE, 1)
        if fetch(board + JOB, 0) == job:  # not over yet, and now it is not over before we are out
            call(load_int64(board, FUNCTION // 8), unread, unread + 8, load_int64(board, ARGUMENTS // 8), 0)
        fetch_add(board + INSIDE, -1)
        done, spins = job, 0
    return 0


def launch(board, asleep, locks, release_lock, unread, jobs, number_of_jobs):
    """Do jobs, one after the other, each with helpers if they are free: in one go, which no signal comes between.

    A job is a function, its arguments, how many helpers it may have, and the number of its next batch.
    """
    mine = exchange(board + BUSY, 1) == 0
    for i in range(number_of_jobs):
        function, arguments, helpers = (
            load_int64(jobs, 4 * i),
            load_int64(jobs, 4 * i + 1),
            load_int64(jobs, 4 * i + 2),
        )
        if load_int64(jobs, 4 * i + 3) != 0:
            store_int64(load_int64(jobs, 4 * i + 3), 0, 0)
        if helpers > 0 and mine:
            store_int64(board, FUNCTION // 8, function)
            store_int64(board, ARGUMENTS // 8, arguments)
            exchange(board + JOB, fetch_add(board + JOBS, 1) + 1)
            for helper in range(helpers):
                if exchange(asleep + 64 * helper, 0) != 0:
                    call(release_lock, load_int64(locks, helper), 0, 0, 0)
        call(function, unread, unread + 8, arguments, 0)
        if helpers > 0 and mine:
            exchange(board + JOB, 0)
            while fetch(board + INSIDE, 0) != 0:
                pass
    if mine:
        exchange(board + BUSY, 0)
    return 0
