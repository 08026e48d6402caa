"""The style sheet of the report: light and dark by the reader's setting, one column on a phone."""

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --ink: #1b2330;
  --muted: #5d6878; --line: #dde2e9; --main: #2563b8; --soft: #a9c3e8; --bad: #c8442f;
  --good: #2f8f55; --heat: 37 99 184; }
@media (prefers-color-scheme: dark) { :root { --page: #12161c; --card: #1b212a; --ink: #e6eaf0;
  --muted: #9aa6b6; --line: #313a47; --main: #6ea8f2; --soft: #35537d; --bad: #ef7d69;
  --good: #62c48a; --heat: 110 168 242; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1320px; margin: 0 auto; padding: 28px 20px 48px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 4px; }
p { margin: 4px 0; }
.note { color: var(--muted); font-size: 13px; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 12px;
  margin: 20px 0; }
.number { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px 14px; }
.number b { display: block; font-size: 26px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.number.first b { color: var(--main); }
.number span { color: var(--muted); font-size: 12.5px; }
.origin { font-weight: 600; overflow-wrap: anywhere; }
.cards { columns: 3 360px; column-gap: 16px; margin-bottom: 16px; }
figure { margin: 0 0 16px; break-inside: avoid; min-width: 0; background: var(--card);
  border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px;
  display: flex; flex-direction: column; }
figure > details { margin-top: auto; padding-top: 10px; color: var(--muted); font-size: 12px; }
summary { cursor: pointer; }
code { display: block; margin-top: 4px; overflow-wrap: anywhere; white-space: pre-wrap;
  font: 12px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
.scroll { overflow-x: auto; margin-top: 10px; }
svg { display: block; width: 100%; height: auto; margin-top: 8px; }
svg text { fill: var(--muted); font-size: 11px; }
svg .grid { stroke: var(--line); stroke-width: 1; fill: none; }
svg .curve { stroke: var(--main); stroke-width: 2; fill: none; stroke-linejoin: round;
  stroke-linecap: round; }
svg .second { stroke: var(--bad); } svg .third { stroke: var(--good); }
svg .area { fill: var(--main); opacity: .14; }
svg .ideal { stroke: var(--muted); stroke-dasharray: 4 4; fill: none; }
svg .bar { fill: var(--soft); }
h3 { margin: 10px 0 0; font-size: 12.5px; }
.panels { display: grid; grid-template-columns: repeat(var(--columns), 1fr); gap: 10px;
  margin-top: 8px; }
.panels h3 { margin: 0; font-size: 12.5px; font-weight: 600; display: flex; gap: 6px;
  justify-content: space-between; }
.panels h3 span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.panels svg { margin-top: 2px; }
.bars { display: grid; grid-template-columns: minmax(90px, auto) 1fr auto; gap: 7px 10px;
  align-items: center; margin-top: 12px; font-size: 13.5px; }
.bars i { display: block; height: 14px; border-radius: 3px; background: var(--main);
  min-width: 2px; }
.bars i.pale { background: var(--soft); }
.bars span { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bars small { color: var(--muted); }
table { border-collapse: collapse; width: 100%; font-size: 13px;
  font-variant-numeric: tabular-nums; }
th, td { padding: 4px 5px; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--muted); font-weight: 600; font-size: 12.5px; }
th:first-child, td:first-child { text-align: left; }
td.meter { width: 25%; min-width: 44px; }
td.meter i { display: block; height: 9px; border-radius: 3px; background: var(--main); }
.matrix { width: auto; font-size: 12px; margin: 0 auto; }
.matrix td, .matrix th { padding: 2px 4px; text-align: center; min-width: 25px;
  border: 1px solid var(--line); }
.matrix th { font-size: 11.5px; }
.matrix thead th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left;
  border: 0; }
.matrix tbody th { text-align: right; border: 0; position: sticky; left: 0;
  background: var(--card); }
.worst { columns: 5 220px; column-gap: 14px; margin-top: 12px; }
.worst div { break-inside: avoid; margin-bottom: 14px; font-size: 12.5px; overflow-wrap: anywhere; }
.worst img { display: block; width: 100%; height: auto; border-radius: 6px; }
.key { display: inline-block; width: 11px; height: 11px; border: 2px solid; margin: 0 4px 0 10px;
  vertical-align: -1px; }
@media (max-width: 1100px) { .panels {
  grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); } }
@media (max-width: 600px) { main { padding: 18px 10px 32px; } figure { padding: 14px 12px; }
  h1 { font-size: 21px; } .bars { font-size: 13px; } .panels {
  grid-template-columns: repeat(auto-fill, minmax(100px, 1fr)); } .meter { display: none; } }
"""
