#!/usr/bin/env python3
"""Simulates how the thread pool divides the products of one pass (`ThreadPool.run(count:grain:)`), for more threads than this
machine may have. Prints the share of the threads' time that is spent computing: all threads equally fast, and one of them
at half speed, as beside a neighbour on its core. It knows no memory bandwidth and no time for waking threads.

    scripts/bench/thread_ranges.py [--threads 2,4,8,16,32,64] [--rows 1,16,128]
"""

import argparse
import heapq

LANES = 16  # outputs of a group
# Products of a layer as (outputs, columns); gate and up are computed as one of as many outputs as gate has.
SHAPES = {
    "135m": (30, [(960, 576), (576, 576), (1536, 2 * 576), (576, 1536)], (49152, 576)),
    "1b": (16, [(3072, 2048), (2048, 2048), (8192, 2 * 2048), (2048, 8192)], (128256, 2048)),
    "8b": (32, [(6144, 4096), (4096, 4096), (14336, 2 * 4096), (4096, 14336)], (128256, 4096)),
    "70b": (80, [(10240, 8192), (8192, 8192), (28672, 2 * 8192), (8192, 28672)], (128256, 8192)),
}


def seconds(outputs, columns, rows, speeds):
    """The time of one task where a group of one column and row takes a thread of speed 1 one unit."""
    count, first = -(-outputs // LANES), 0
    minimum = max(1, 20_000 // (rows * columns * LANES))
    free = [(0.0, thread) for thread in range(len(speeds))]
    end = 0.0
    while first < count:
        time, thread = heapq.heappop(free)
        length = min(count - first, max(minimum, (count - first) // (2 * len(speeds))))
        time += length * columns * rows / speeds[thread]
        first += length
        end = max(end, time)
        heapq.heappush(free, (time, thread))
    return end


def share(shape, rows, speeds):
    layers, products, head = SHAPES[shape]
    # The head is computed for one row of a prompt, and for every row that decodes; here for one.
    tasks = [(layers, outputs, columns, rows) for outputs, columns in products] + [(1, *head, 1)]
    work = sum(n * -(-outputs // LANES) * columns * r for n, outputs, columns, r in tasks)
    return work / (sum(speeds) * sum(n * seconds(outputs, columns, r, speeds) for n, outputs, columns, r in tasks))


def main():
    parser = argparse.ArgumentParser()
    numbers = lambda text: [int(part) for part in text.split(",")]
    parser.add_argument("--threads", type=numbers, default="2,4,8,16,32,64")
    parser.add_argument("--rows", type=numbers, default="1,16,128")
    options = parser.parse_args()
    print("| shape | rows | " + " | ".join(f"{n} threads" for n in options.threads) + " |")
    print("| --- | --- |" + " --- |" * len(options.threads))
    for shape in SHAPES:
        for rows in options.rows:
            cells = [f"{share(shape, rows, [1] * n):.0%}, {share(shape, rows, [0.5] + [1] * (n - 1)):.0%}" for n in options.threads]
            print(f"| {shape} | {rows} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
