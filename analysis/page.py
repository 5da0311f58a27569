"""The HTML page: one file with its figures inside, without scripts, for any browser. Numbers stand in <data> elements,
whose `value` has all digits."""
import base64
import html
import io
import math

import matplotlib.pyplot as plt

CSS = """
:root { color-scheme: light; }
body { font: 16px/1.45 system-ui, sans-serif; max-width: 68rem; margin: 0 auto; padding: 1rem 1.5rem 4rem; color: #1a1a1a;
       background: #fff; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.3rem; margin-top: 2.5rem; border-bottom: 1px solid #bbb; }
h3 { font-size: 1.05rem; margin-top: 2rem; }
table { border-collapse: collapse; font-size: .87rem; margin: .8rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem .2rem 0; text-align: left; border-bottom: 1px solid #ddd; vertical-align: top; }
th { border-bottom: 2px solid #888; } .scroll { overflow-x: auto; }
figure { margin: 1rem 0; } figure img { max-width: 100%; height: auto; } figcaption { font-size: .9rem; color: #333;
max-width: 48rem; } .warning { border-left: 4px solid #d55e00; padding: .3rem .8rem; background: #fdf1e7; }
dl { display: grid; grid-template-columns: max-content auto; gap: .1rem 1rem; font-size: .9rem; } dd { margin: 0; }
nav ul { columns: 2; } @media print { figure, tr { break-inside: avoid; } }
"""


def escape(text):
    return html.escape(str(text), quote=True)


def number(value, form=".4g"):
    """A number to be read, with all its digits for programs."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f'<data value="{float(value)!r}">{format(float(value), form)}</data>'


class Page:
    """Sections are added from top to bottom; write() makes the files."""

    def __init__(self, title, folder):
        self.title, self.folder = title, folder
        self.parts, self.contents = [], []

    def section(self, title):
        name = f"s{len(self.contents)}"
        self.contents.append((name, title))
        self.parts.append(f'<h2 id="{name}">{escape(title)}</h2>')

    def heading(self, title):
        self.parts.append(f"<h3>{escape(title)}</h3>")

    def text(self, text):
        self.parts.append(f"<p>{escape(text)}</p>")

    def warning(self, text):
        self.parts.append(f'<p class="warning">{escape(text)}</p>')

    def facts(self, facts):
        """[(name, HTML)]"""
        self.parts.append("<dl>" + "".join(f"<dt>{escape(n)}</dt><dd>{value}</dd>" for n, value in facts) + "</dl>")

    def table(self, name, header, rows):
        """Rows of HTML cells."""
        head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
        body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
        self.parts.append(f'<div class="scroll"><table data-name="{escape(name)}"><thead><tr>{head}</tr></thead>'
                          f"<tbody>{body}</tbody></table></div>")

    def figure(self, name, figure, caption):
        """Keeps it as PNG and SVG, and in the page."""
        folder = self.folder / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        image = io.BytesIO()
        with plt.rc_context({"svg.hashsalt": "autolora"}):  # equal runs give equal files
            figure.savefig(image, format="png", dpi=130)
            figure.set_layout_engine("none")  # the places are found; finding them takes most of the time
            figure.savefig(folder / f"{name}.svg", dpi=130, metadata={"Date": None})
        plt.close(figure)
        (folder / f"{name}.png").write_bytes(image.getvalue())
        data = base64.b64encode(image.getvalue()).decode()
        self.parts.append(f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
                          f"<figcaption>{escape(caption)}</figcaption></figure>")

    def write(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        contents = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title in self.contents)
        text = (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(self.title)}</title>'
                f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{CSS}</style></head><body>'
                f"<h1>{escape(self.title)}</h1><nav><ul>{contents}</ul></nav>" + "\n".join(self.parts) + "</body></html>\n")
        path = self.folder / "index.html"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
        return path
