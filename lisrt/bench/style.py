"""How the report's page looks: light, dark, and printed."""

# The colours are those of Okabe and Ito, which the colour-blind can tell apart; on a dark ground they are lighter. Shapes say the
# same, for those who print in black. Print comes last: it is light whatever the screen was.
_LIGHT = """
  --paper: #fff; --ink: #1b1b1b; --soft: #5c5c5c; --rule: #c9c9c9; --grid: #e6e6e6; --wash: #f5f6f7;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b0518d; --c4: #b97f00; --c5: #2b90c9; --c6: #7a5230; --c7: #6b6b6b;
  --floor: #1b1b1b; --good: #00694c; --bad: #b33a00;
"""
_DARK = """
  --paper: #15171a; --ink: #e8e6e3; --soft: #a5a39f; --rule: #4a4d52; --grid: #2b2e33; --wash: #1d2024;
  --c0: #5ab4e8; --c1: #ff8a3d; --c2: #2fc79b; --c3: #e08cc0; --c4: #f0b429; --c5: #8fd0f5; --c6: #c9a07a; --c7: #a8a8a8;
  --floor: #e8e6e3; --good: #45d0a3; --bad: #ff9a66;
"""

CSS = f"""
:root {{ color-scheme: light dark; {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
@media print {{ :root {{ color-scheme: light; {_LIGHT} }} }}
* {{ box-sizing: border-box; }}
html {{ background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%; }}
body {{ max-width: 964px; margin: 0 auto; padding: 36px 20px 60px; font: 16px/1.5 Charter, "Bitstream Charter", "Sitka Text",
  Cambria, "Liberation Serif", Georgia, serif; }}
h1, h2, h3, th, td, dt, dd, figcaption b, .sans, svg text, nav {{ font-family: "Helvetica Neue", Helvetica, Arial,
  "Liberation Sans", system-ui, sans-serif; }}
h1 {{ font-size: 27px; line-height: 1.2; letter-spacing: -.01em; margin: 0 0 6px; }}
h2 {{ font-size: 18px; margin: 40px 0 10px; padding-top: 10px; border-top: 1px solid var(--rule); break-after: avoid; }}
h3 {{ font-size: 14px; margin: 20px 0 4px; break-after: avoid; }}
p {{ margin: 0 0 10px; max-width: 44em; }}
.by {{ color: var(--soft); font-size: 14.5px; }}
ul.verdict {{ margin: 18px 0; padding: 0 0 0 18px; max-width: 46em; }}
ul.verdict li {{ margin: 0 0 5px; }}
ul.notes {{ font-size: 14px; padding: 0 0 0 18px; max-width: 60em; }}
figure {{ margin: 14px 0 22px; break-inside: avoid; }}
figure.tall {{ break-inside: auto; }}
figcaption, .note {{ font-size: 14px; line-height: 1.45; color: var(--soft); max-width: 58em; }}
figcaption {{ margin-top: 4px; }}
figcaption b {{ color: var(--ink); font-size: 13px; }}
.pair {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr)); gap: 14px 12px; }}
.panel {{ break-inside: avoid; min-width: 0; }}
.panel h3 {{ margin: 0; font-size: 13px; }}
h3 span {{ font-weight: 400; color: var(--soft); }}
svg.plot {{ display: block; max-width: 100%; height: auto; overflow: visible; }}
svg text {{ font-size: 12px; fill: var(--ink); font-variant-numeric: tabular-nums; }}
svg text.tick {{ font-size: 11px; fill: var(--soft); }}
svg text.heading {{ font-weight: 600; }}
svg text.halo {{ paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }}
svg .axis {{ stroke: var(--soft); fill: none; }}
svg .grid {{ stroke: var(--grid); }}
svg .unity {{ stroke: var(--ink); stroke-width: 1.2; }}
svg .target {{ stroke: var(--ink); stroke-dasharray: 4 3; }}
svg .leader {{ stroke: var(--rule); fill: none; }}
svg .interval {{ stroke: var(--ink); stroke-width: 1.2; fill: none; }}
svg .aim {{ fill: var(--paper); stroke: var(--soft); stroke-width: 1.3; }}
svg .rug {{ stroke: var(--c); stroke-width: 1; opacity: .38; fill: none; }}
svg .half {{ stroke: var(--c); stroke-width: 5; opacity: .55; }}
svg .far {{ stroke: var(--c); stroke-width: 2; fill: none; }}
svg .curve {{ stroke: var(--c); stroke-width: 2; fill: none; }}
svg .broken {{ stroke-dasharray: 6 4; stroke-width: 1.6; }}
svg .error {{ stroke: var(--c); stroke-width: 1.4; fill: none; }}
svg .bar {{ fill: var(--c); }}
svg .dot {{ fill: var(--c); stroke: var(--paper); stroke-width: 1.5; }}
.s-floor {{ --c: var(--floor); }}
{" ".join(f".s{number} {{ --c: var(--c{number}); }}" for number in range(8))}
.s-main {{ --c: var(--c0); }} .s-miss {{ --c: var(--c1); }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-size: 13px; line-height: 1.35; font-variant-numeric: tabular-nums; }}
table.slim {{ width: auto; min-width: 50%; }}
caption {{ text-align: left; color: var(--soft); font-size: 14px; padding: 0 0 6px; caption-side: top; }}
th {{ text-align: left; font-weight: 600; padding: 4px 8px; vertical-align: bottom; }}
thead th {{ border-bottom: 1.5px solid var(--ink); font-size: 12px; }}
td {{ padding: 3px 8px; vertical-align: top; border-bottom: 1px solid var(--grid); }}
tbody th {{ vertical-align: top; font-weight: 400; padding: 3px 8px; border-bottom: 1px solid var(--grid); }}
tbody th.group {{ font-weight: 600; padding-top: 14px; border-bottom: 1px solid var(--rule); }}
th:first-child, td:first-child {{ padding-left: 0; }}
tbody tr {{ break-inside: avoid; }}
tr.first > * {{ border-top: 1px solid var(--rule); }}
.num {{ text-align: right; white-space: nowrap; }}
.num .f3, .num .f2 {{ display: inline-block; text-align: left; width: 2.1em; }} .num .f2 {{ width: 1.55em; }}
.ci {{ display: block; color: var(--soft); font-size: 11px; }}
.yes, .no, .open {{ font-weight: 600; }}
.yes {{ color: var(--good); }} .no {{ color: var(--bad); }} .open {{ color: var(--soft); }}
.fail td, .fail th {{ color: var(--bad); }} .fail .ci {{ color: inherit; }}
.key {{ display: inline-block; width: 11px; height: 11px; vertical-align: -1px; margin-right: 5px; overflow: visible; }}
dl {{ columns: 2 400px; column-gap: 28px; margin: 0; font-size: 13px; font-variant-numeric: tabular-nums; }}
dl div {{ display: grid; grid-template-columns: 178px 1fr; gap: 10px; padding: 3px 0; break-inside: avoid;
  border-bottom: 1px solid var(--grid); }}
dt {{ color: var(--soft); }} dd {{ margin: 0; overflow-wrap: anywhere; }}
pre {{ background: var(--wash); padding: 10px 12px; font-size: 13px; line-height: 1.4; white-space: pre-wrap;
  overflow-wrap: anywhere; font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas, "Liberation Mono", monospace; }}
@media (max-width: 720px) {{ figure {{ overflow-x: auto; }} svg.plot {{ max-width: none; }} }}
@page {{ margin: 14mm 12mm; }}
@media print {{
  body {{ max-width: none; padding: 0; font-size: 10.5pt; line-height: 1.42; }}
  h1 {{ font-size: 18pt; }} h2 {{ font-size: 13pt; margin-top: 20pt; }}
  .pair {{ grid-template-columns: 1fr 1fr; }}
  .scroll, figure {{ overflow: visible; }} svg.plot {{ max-width: 100%; }}
  dl {{ columns: 2; }} dl div {{ grid-template-columns: 42% 1fr; }}
  table, dl {{ font-size: 8.5pt; }} .ci {{ font-size: 7.2pt; }} thead th {{ font-size: 8pt; }}
  td, th {{ padding-left: 5px; padding-right: 5px; }}
  figcaption, .note, caption {{ font-size: 9pt; }}
  svg .rug {{ opacity: .5; }}
  * {{ -webkit-print-color-adjust: exact; print-color-adjust: exact; }}
}}
"""
