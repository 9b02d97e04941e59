"""What a sweep has found: tables, means, the best point, and pictures with every seed in them."""

import numpy as np

from .table import Table


class Sweep:
    """The results of a sweep.  As the last line of a cell it prints itself as a table: means, and every seed.

    names       the settings, in order          points   the points, a list of {name: label}
    seeds       the seeds                       rows     a list of (point, seed, {measured: number}), one for each run
    measured    the names of what the function returned

    A run that was wrecked (it raised Diverged) has NaN for every number.  Everywhere, `value` is the name of what was
    measured; the first, if none is given.
    """

    def __init__(self, names, points, seeds, rows, measured=None):
        self.names, self.points, self.seeds, self.rows = list(names), list(points), tuple(seeds), list(rows)
        found = list(dict.fromkeys(name for _, _, values in self.rows for name in values))
        self.measured = measured or found or ["value"]

    def __len__(self):
        return len(self.points)

    def labels(self, name):
        """The values that a setting takes, in order.  Raises: KeyError that lists the settings"""
        if name not in self.names:
            raise KeyError(f"there is no setting {name!r}; there are: {', '.join(self.names)}")
        return list(dict.fromkeys(point[name] for point in self.points))

    def where(self, **point):
        """The part of a sweep where these settings have these values; a value may be a list of several.

        Raises: KeyError for another setting; ValueError if no point is left
        """
        wanted = {name: value if isinstance(value, (list, tuple)) else [value] for name, value in point.items()}
        for name, values in wanted.items():
            there = self.labels(name)
            if strange := [value for value in values if value not in there]:
                raise ValueError(f"no point has {name} = {strange[0]!r}; there are: {', '.join(map(str, there))}")

        def kept(one):
            return all(one[name] in values for name, values in wanted.items())

        points = [one for one in self.points if kept(one)]
        if not points:
            raise ValueError(f"no point has {point}")
        return self.part(points, [row for row in self.rows if kept(row[0])])

    def values(self, value=None, **point):
        """The number of every seed, (seeds,), at one point; (points, seeds) if several points match.

        A learning curve adds an axis of its own at the end.
        """
        value, rows = self.one_of_the_measured(value), self.where(**point).rows
        found = [values.get(value, np.nan) for _, _, values in rows]
        longest = max((one for one in found if isinstance(one, list)), key=len, default=None)
        if longest is not None:  # a curve that broke off, or is missing, ends in NaN
            found = [
                [*(one if isinstance(one, list) else []), *[np.nan] * len(longest)][: len(longest)] for one in found
            ]
        array = np.array(found, float)
        array = array.reshape(-1, len(self.seeds), *array.shape[1:])
        return array[0] if len(array) == 1 else array

    def mean(self, value=None, **point):
        """The mean over seeds: at one point a number, or a curve; an array of them where several points match.

        It is NaN where one seed was wrecked, so a point with a wreck does not look better than it is; tables and pictures
        show the wreck and take the mean of the others.
        """
        value, part = self.one_of_the_measured(value), self.where(**point)
        curve = any(isinstance(values.get(value), list) for _, _, values in part.rows)
        mean = part.values(value).mean(axis=-2 if curve else -1)
        return float(mean) if mean.ndim == 0 else mean

    def one_of_the_measured(self, value):
        if value is None:
            return self.measured[0]
        if value not in self.measured:
            raise KeyError(f"{value!r} was not measured; there is: {', '.join(self.measured)}")
        return value

    def best(self, by=None, each=None, least=False):
        """The point with the largest mean (least=True: the smallest) of what `by` names; wrecked runs lose.

        each: a setting, or several.  Then the best for each of its values, {value: point}: the best rate of each method.
        """
        if each is not None:
            each = [each] if isinstance(each, str) else list(each)
            groups = dict.fromkeys(tuple(point[name] for name in each) for point in self.points if self.labels(each[0]))
            best = {group: self.where(**dict(zip(each, group, strict=True))).best(by, least=least) for group in groups}
            return {group[0] if len(each) == 1 else group: point for group, point in best.items()}
        means = [self.mean(by, **point) for point in self.points]
        if any(np.ndim(mean) for mean in means):
            raise ValueError(f"{by or self.measured[0]!r} is a curve; by= must name one number for each run")
        means = [np.inf if np.isnan(mean) else mean if least else -mean for mean in means]
        return self.points[int(np.argmin(means))]

    def only(self, points):
        """The part of a sweep that has these points; what best(each=...) gave, say."""
        points = list(points.values()) if isinstance(points, dict) else list(points)
        if strange := [point for point in points if point not in self.points]:
            raise ValueError(f"the sweep has no point {strange[0]}")
        return self.part(points, [row for point in points for row in self.rows if row[0] == point])

    def part(self, points, rows):
        """Some points and their rows: what was measured stays so where every run of theirs was wrecked."""
        return Sweep(self.names, points, self.seeds, rows, self.measured)

    # ---- as a table

    def varied(self):
        """The settings that take more than one value."""
        return [name for name in self.names if len(self.labels(name)) > 1] or self.names[-1:]

    def table(self, rows=None, columns=None, value=None, format=".3g", each_seed=True):
        """A Table: the mean, and in brackets every seed, of one number that was measured.

        rows, columns: names of settings, one or several each; if not given, the last setting that varies makes the
        columns and the others the rows.  Where several points share a cell, all their runs are in it.  If no value is
        named, a line below says what else was measured.
        """
        others = [name for name in self.measured if name != self.measured[0]] if value is None else []
        value = self.one_of_the_measured(value)
        varied = self.varied()
        rows = [rows] if isinstance(rows, str) else rows
        columns = [columns] if isinstance(columns, str) else columns
        if columns is None:
            columns = [name for name in varied if name not in (rows or varied[:-1])]
        if rows is None:
            rows = [name for name in varied if name not in columns]
        heads = self.groups(columns)
        lines = []
        for group in self.groups(rows):
            points = [dict(zip([*rows, *columns], [*group, *head], strict=True)) for head in heads]
            lines.append((*group, *(self.cell(point, value, format, each_seed) for point in points)))
        names = [", ".join(map(titled, columns, head)) or value for head in heads]
        n = len(self.seeds)
        title = (
            value
            if self.seeds == (None,)
            else f"{value}, mean of {n} seeds"
            if n > 1
            else f"{value}, seed {self.seeds[0]}"
        )
        title += ", and each" if n > 1 and each_seed else ""
        note = [f"also measured: {', '.join(others)}"] if others else []
        if any(np.isnan(values.get(value, np.nan)).any() for _, _, values in self.rows):
            note.insert(0, "×: a wrecked run; the mean is of the others")
        return Table([*rows, *names], lines, title=title, note="\n".join(note))

    def groups(self, names):
        """The combinations of values that some settings take, in order."""
        for name in names:
            self.labels(name)
        return list(dict.fromkeys(tuple(point[name] for name in names) for point in self.points))

    def cell(self, point, value, form, each_seed):
        """ "97% (95 98 98)", for the runs of one cell."""
        if not any(all(one[name] == label for name, label in point.items()) for one in self.points):
            return None
        values = self.values(value, **point).ravel()
        text = "wrecked" if np.isnan(values).all() else format(np.nanmean(values), form)
        if not each_seed or values.size == 1:
            return text
        each = " ".join("×" if np.isnan(v) else format(v, form).rstrip("%") for v in values)
        return f"{text} ({each})"

    def __repr__(self):
        return repr(self.table())

    # ---- as a picture

    def plot(self, x=None, lines=None, y=None, **options):
        """Lines through the means of y against a setting x, every seed a dot, a line for each value of `lines`.

        x: the last setting that varies, if not given.  lines: one setting or several; all others that vary, if not given.
        Options: see charts.plot_lines (title, xlabel, ylabel, format, ylim, logx, logy, level).  Returns a Picture.
        """
        from .charts import plot_lines

        y = self.one_of_the_measured(y)
        x = x or self.varied()[-1]
        lines = [lines] if isinstance(lines, str) else lines
        lines = [name for name in self.varied() if name != x] if lines is None else list(lines)
        series = {}
        for group in self.groups(lines):
            part = self.where(**dict(zip(lines, group, strict=True)))
            values = [part.values(y, **{x: place}).ravel() for place in part.labels(x)]
            series[", ".join(map(titled, lines, group)) or y] = (part.labels(x), values)
        return plot_lines(series, **{"xlabel": x, "ylabel": y} | options)

    def heat(self, x=None, y=None, value=None, wrecked=None, **options):
        """A heat map of the means of a value, x across and y upwards; hatched where a run was wrecked.

        wrecked: a function of a run's value that says so (lambda loss: loss > 3); NaN is wrecked in any case.
        Options: see charts.plot_heat (title, xlabel, ylabel, format).  Returns a Picture.
        """
        from .charts import plot_heat

        value, varied = self.one_of_the_measured(value), self.varied()
        x = x or varied[-1]
        y = y or next((name for name in reversed(varied) if name != x), self.names[0])
        columns, rows = self.labels(x), self.labels(y)
        points = {(one[y], one[x]) for one in self.points}
        cells = [
            [self.values(value, **{x: c, y: r}).ravel() if (r, c) in points else np.array([]) for c in columns]
            for r in rows
        ]
        return plot_heat(cells, columns, rows, wrecked, **{"xlabel": x, "ylabel": y, "label": value} | options)


def titled(name, label):
    """A value of a setting as it stands over a column or at a line: r = 4; a text needs no name."""
    return (
        label
        if isinstance(label, str)
        else f"{name} = {label:.3g}"
        if isinstance(label, float)
        else f"{name} = {label}"
    )
