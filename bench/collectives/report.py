"""Ratios of medians and a plot out of what run.sh measured: report.py RESULTS-FOLDER two|four|hosts ..."""
import json
import math
import pathlib
import sys

MPI, BARE, GLOO = "MPI_Allreduce", "bare_loop", "gloo"
# (part, way, the other, sizes, at least so many times as fast as the other)
BARS = [
    ("two", "registered", BARE, [4000000, 16000000, 44000000, 100000000], 1 / 1.25),
    ("two", "registered", MPI, [44000000, 100000000], 5),
    ("two", "registered", GLOO, [44000000, 100000000], 8),
    ("two", "registered", MPI, [4000000, 16000000], 3),
    ("two", "unregistered", MPI, [44000000, 100000000], 2.5),
    ("two", "registered", MPI, [4096], 1),
    ("two", "unregistered", MPI, [4096], 1),
    ("two", "registered", MPI, [65536], 5),
    ("two", "unregistered", MPI, [65536], 1),
    ("four", "registered", MPI, [44000000], 3),
    ("hosts", "registered", MPI, [44000000], 1.5),
    ("hosts", "registered", MPI, [1048576, 4000000, 16000000], 1),
    ("hosts", "registered", MPI, [4096, 16384, 65536, 262144], 1 / 1.5),
]
COLOURS = {"registered": "#0b6e4f", "unregistered": "#6bbf59", BARE: "#888888", MPI: "#c1292e", "mpi_backend": "#e8a33d", GLOO: "#235789"}


def read(folder, part):
    path = folder / f"{part}.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return {row["bytes"]: row for row in map(json.loads, lines)}


def table(part, rows):
    first = next(iter(rows.values()))
    ways = [way for way in COLOURS if way in first]
    lines = [f"{part}: {first['ranks']} ranks over {first['backend']}, float32, medians in us (spread: half the distance of the quartiles)"]
    lines.append(f"{'bytes':>10} " + " ".join(f"{way:>20}" for way in ways))
    for size, row in rows.items():
        cells = [f"{row[way][1] * 1e6:.1f} +-{50 * (row[way][2] - row[way][0]) / row[way][1]:3.0f} %" for way in ways]
        lines.append(f"{size:>10} " + " ".join(f"{cell:>20}" for cell in cells))
    return lines


def bars(parts):
    lines = []
    for part, way, other, sizes, wanted in BARS:
        for size in sizes:
            row = parts.get(part, {}).get(size)
            if not row or other not in row:
                continue
            ratio = row[other][1] / row[way][1]
            text = f"{ratio:.2f}x as fast as {other} (at least {wanted:g})" if wanted >= 1 else f"{1 / ratio:.2f}x the time of {other} (at most {1 / wanted:g})"
            lines.append(f"{'met   ' if ratio >= wanted else 'MISSED'} {part:>5} {size:>10} {way:>13}: {text}")
    return lines


def panel(part, rows, left, width, height):
    """Bandwidth over size, both logarithmic."""
    first = next(iter(rows.values()))
    sizes = sorted(rows)
    points = {way: [(size, size / rows[size][way][1] / 1e9) for size in sizes] for way in COLOURS if way in first}
    values = [value for line in points.values() for _, value in line]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    x0, x1 = math.log10(sizes[0]), math.log10(sizes[-1])

    def x(size):
        return left + 50 + (width - 70) * (math.log10(size) - x0) / (x1 - x0)

    def y(value):
        return 40 + (height - 90) * (high - math.log10(value)) / (high - low)

    out = [f'<text x="{left + 50}" y="22" font-weight="bold">{first["ranks"]} ranks, {first["backend"]}</text>']
    for power in range(low, high + 1):
        out.append(f'<line x1="{x(sizes[0])}" x2="{x(sizes[-1])}" y1="{y(10 ** power)}" y2="{y(10 ** power)}" stroke="#ddd"/>')
        out.append(f'<text x="{left + 44}" y="{y(10 ** power) + 4}" text-anchor="end">{10 ** power:g}</text>')
    for size in sizes:
        label = f"{size / 1e6:g} MB" if size % 1000000 == 0 else f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} K"
        out.append(f'<text transform="translate({x(size) + 4},{height - 44}) rotate(60)">{label}</text>')
    for way, line in points.items():
        path = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in line)
        out.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[way]}" stroke-width="2"/>')
    return out


def plot(parts):
    width, height = 380, 380
    shown = [(part, rows) for part, rows in parts.items() if rows]
    total = width * len(shown) + 140
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{height}" font-family="sans-serif" font-size="11">',
           f'<rect width="{total}" height="{height}" fill="white"/>']
    for at, (part, rows) in enumerate(shown):
        out += panel(part, rows, at * width, width, height)
    out.append(f'<text transform="translate(12,{height / 2}) rotate(-90)" text-anchor="middle">size / time, GB/s</text>')
    for at, (way, colour) in enumerate(COLOURS.items()):
        out.append(f'<rect x="{total - 135}" y="{50 + 20 * at}" width="14" height="4" fill="{colour}"/>')
        out.append(f'<text x="{total - 115}" y="{56 + 20 * at}">{way.replace("_", " ")}</text>')
    return "\n".join(out + ["</svg>", ""])


def main():
    folder = pathlib.Path(sys.argv[1])
    parts = {part: read(folder, part) for part in sys.argv[2:]}
    lines = []
    for part, rows in parts.items():
        lines += table(part, rows) + [""] if rows else [f"{part}: not measured here", ""]
    lines += bars(parts)
    (folder / "report.txt").write_text("\n".join(lines) + "\n")
    (folder / "plot.svg").write_text(plot(parts))
    print("\n".join(lines))
    print(f"\n{folder}/plot.svg")


main()
