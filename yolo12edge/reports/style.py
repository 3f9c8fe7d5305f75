"""The style sheet of the pages: light, dark, narrow and on paper."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --raised: #f5f7f9; --ink: #1f2933; --soft: #52606d; --muted: #8a94a0; --grid: #e4e7eb;
  --float: #2f6fde; --int8: #e8590c; --good: #18794e; --bad: #c92a2a; --warn: #935f00;
  --good-ground: #e6f6ec; --bad-ground: #fdebec; --warn-ground: #fff4d6;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ground: #14181d; --raised: #1c2229; --ink: #e4e9ee; --soft: #a9b4bf; --muted: #7b8794; --grid: #2b333c;
    --float: #74a9ff; --int8: #ff9557; --good: #6cd797; --bad: #ff8f8f; --warn: #f0c050;
    --good-ground: #14301f; --bad-ground: #3a1a1d; --warn-ground: #33290e;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif;
}
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 3rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; letter-spacing: -0.01em; }
h2 { font-size: 1.25rem; margin: 0 0 1rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 0.75rem; }
p { margin: 0 0 0.5rem; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; font-size: 0.86em; }
code { overflow-wrap: anywhere; }
section { border-top: 1px solid var(--grid); padding-top: 1.75rem; margin-top: 2.25rem; }
.kind {
  color: var(--soft); font-size: 0.8rem; font-weight: 600; letter-spacing: 0.08em; text-transform: uppercase;
  margin: 0 0 0.25rem;
}
.what { color: var(--soft); margin: 0.4rem 0 0; overflow-wrap: anywhere; }
.what + .verdict, figure + figure, .table + figure { margin-top: 1.5rem; }
.marks { list-style: none; display: flex; flex-wrap: wrap; gap: 0.5rem; margin: 1.1rem 0; padding: 0; }
.marks li { border-radius: 99px; padding: 0.2rem 0.85rem; font-weight: 650; font-size: 0.95rem; }
.marks .good { color: var(--good); background: var(--good-ground); }
.marks .bad { color: var(--bad); background: var(--bad-ground); }
.marks .warn { color: var(--warn); background: var(--warn-ground); }
.verdict { font-size: 1.08rem; max-width: 46rem; overflow-wrap: anywhere; }
.table + p, figure + .caption { margin-top: 0.75rem; }
.caption, figcaption, footer { color: var(--soft); font-size: 0.9rem; }
.tiles {
  list-style: none; display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 0.8rem;
  margin: 1.5rem 0 0; padding: 0;
}
.tiles li { background: var(--raised); border-radius: 0.6rem; padding: 0.8rem 1rem 0.9rem; }
.tiles strong {
  display: block; font-size: 1.75rem; line-height: 1.25; font-weight: 650; letter-spacing: -0.01em;
  font-variant-numeric: tabular-nums;
}
.tiles span { display: block; color: var(--soft); font-size: 0.88rem; line-height: 1.4; }
.tiles .good strong { color: var(--good); }
.tiles .bad strong { color: var(--bad); }
.tiles .warn strong { color: var(--warn); }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; width: 100%; font-size: 0.94rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.4rem 0.75rem; border-bottom: 1px solid var(--grid); text-align: right; vertical-align: baseline; }
th:first-child, td:first-child { padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
thead th {
  color: var(--soft); font-weight: 600; border-bottom-color: var(--muted); vertical-align: bottom; white-space: nowrap;
}
tbody th { font-weight: 500; overflow-wrap: anywhere; min-width: 6rem; }
th.words, td.words, tbody th { text-align: left; }
td.number { white-space: nowrap; }
.bars td:nth-child(2) { width: 50%; min-width: 4rem; }
.bars code { overflow-wrap: normal; white-space: nowrap; }
.bars th, .bars td { padding-top: 0.22rem; padding-bottom: 0.22rem; }
.bar {
  display: inline-block; height: 0.7rem; min-width: 1px; background: var(--int8); border-radius: 0 2px 2px 0;
  print-color-adjust: exact; -webkit-print-color-adjust: exact;
}
.bar.float { background: var(--float); }
.pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 2rem; align-items: start; }
.small { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: 1rem; }
.pair + .small { margin-top: 1.5rem; }
figure { margin: 0; }
figure svg { display: block; width: 100%; height: auto; stroke-linejoin: round; stroke-linecap: butt; }
figcaption { margin-top: 0.4rem; overflow-wrap: anywhere; }
.example { margin: 0 0 2rem; }
.sides { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0.75rem; }
.sides span { display: block; font-size: 0.9rem; color: var(--soft); margin-bottom: 0.25rem; }
.sides b.float { color: var(--float); }
.sides b.int8 { color: var(--int8); }
.sides img { display: block; width: 100%; height: auto; border-radius: 0.35rem; }
dl {
  display: grid; grid-template-columns: minmax(9rem, auto) minmax(0, 1fr); margin: 0; font-size: 0.94rem;
  font-variant-numeric: tabular-nums;
}
dt, dd { margin: 0; padding: 0.4rem 0; border-bottom: 1px solid var(--grid); overflow-wrap: anywhere; }
dt { color: var(--soft); padding-right: 1.5rem; }
.pair dl { grid-template-columns: minmax(0, 1fr) auto; }
.pair dd { text-align: right; }
pre {
  background: var(--raised); border-radius: 0.6rem; padding: 1rem 1.1rem; margin: 0; white-space: pre-wrap;
  font-size: 0.9rem; line-height: 1.6;
}
pre code { font-size: inherit; }
details summary { cursor: pointer; }
footer { border-top: 1px solid var(--grid); margin-top: 2.25rem; padding-top: 1rem; }
@media (max-width: 46rem) {
  main { padding: 1.5rem 1rem 2rem; }
  h1 { font-size: 1.6rem; }
  .pair, .sides { grid-template-columns: minmax(0, 1fr); }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0.6rem; }
  .tiles strong { font-size: 1.4rem; }
  th, td { padding: 0.4rem 0.5rem; }
  main > section > dl { grid-template-columns: minmax(0, 2fr) minmax(0, 3fr); }
}
@media screen {
  .scroll { max-height: 54rem; overflow-y: auto; }
  thead th { position: sticky; top: 0; background: var(--ground); }
}
@media print {
  html { font-size: 12px; }
  main { max-width: none; padding: 0; }
  h2, h3, .caption { break-after: avoid; }
  figure, tr, .tiles { break-inside: avoid; }
  .scroll { overflow: visible; }
  .marks li, .tiles li, pre { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
