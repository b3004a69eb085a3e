"""The style sheet of report.html. A string, so that the page needs no file beside the code."""

STYLE = """\
:root {
  color-scheme: light dark;
  --page: #fbfbfa; --card: #ffffff; --text: #1d2024; --quiet: #5c636b; --line: #dddfe2; --code: #f1f2f3;
  --good: #0b6b34; --good-back: #dcf3e4;
  --bad: #a3161f; --bad-back: #fbe0e1;
  --open: #7a5200; --open-back: #fcefcf;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15171a; --card: #1d2024; --text: #e7e9eb; --quiet: #a2a9b1; --line: #363b41; --code: #25292e;
    --good: #86dca6; --good-back: #12381f;
    --bad: #ffa3a3; --bad-back: #4a1a1d;
    --open: #f2cc74; --open-back: #40310d;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: break-word;
}
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; }
h3 { font-size: 1rem; margin: 0 0 .5rem; }
p { margin: 0 0 .5rem; }
.lead { font-size: 1.1rem; }
.facts, .source, figcaption, dt, th { color: var(--quiet); font-size: .875rem; }
.notice { background: var(--open-back); color: var(--open); padding: .5rem .75rem; border-radius: .4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 600; white-space: nowrap; }
th, td { padding: .6rem .75rem; vertical-align: top; border-bottom: 1px solid var(--line); }
td p:last-child { margin-bottom: 0; }
.claims td:nth-child(2) { min-width: 18rem; }
.verdict { display: inline-block; padding: .1rem .6rem; border-radius: 1rem; font-size: .875rem; font-weight: 600; }
.supported { color: var(--good); background: var(--good-back); }
.contradicted { color: var(--bad); background: var(--bad-back); }
.inconclusive { color: var(--open); background: var(--open-back); }
code, pre { font: .85rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { margin: .5rem 0; padding: .75rem 1rem; background: var(--code); border-radius: .4rem; overflow-x: auto; }
pre.wrap { white-space: pre-wrap; overflow-wrap: anywhere; }
figure { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
figure { margin: 0 0 1.5rem; padding: 1rem; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto .5rem; border-radius: .25rem; }
figcaption { max-width: 46rem; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .75rem; margin: 0; }
dd { margin: 0; overflow-wrap: anywhere; }
summary { cursor: pointer; padding: .35rem 0; }
@media (max-width: 48rem) {
  table, tbody, tr, td { display: block; }
  thead { display: none; }
  tr {
    margin-bottom: 1rem; padding: .75rem 1rem;
    background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  }
  td, .claims td:nth-child(2) { min-width: 0; padding: .25rem 0; border: 0; }
  td[data-label]::before { content: attr(data-label); display: block; color: var(--quiet); font-size: .8rem; }
  .lanes td { display: flex; padding: .1rem 0; }
  .lanes td::before { flex: 0 0 8rem; line-height: 1.9; }
  figure { padding: .75rem; }
}
"""
