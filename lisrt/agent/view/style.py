"""How the page of an episode looks: light, dark, and printed."""

_LIGHT = """
  --paper: #fff; --ink: #1b1b1b; --soft: #5c5c5c; --rule: #c9c9c9; --grid: #e6e6e6; --wash: #f5f6f7; --call: #00588a;
  --good: #00694c; --bad: #a82a00; --poor: #7a5600; --added: #e9f5ee; --removed: #fbece8; --odd: #8a2f73;
"""
_DARK = """
  --paper: #15171a; --ink: #e8e6e3; --soft: #a5a39f; --rule: #4a4d52; --grid: #2b2e33; --wash: #1d2024; --call: #7cc4f0;
  --good: #45d0a3; --bad: #ff9a66; --poor: #e8b94a; --added: #16281f; --removed: #321d18; --odd: #e79bd0;
"""

# Print comes last: it is light whatever the screen was. Turns and observations are printed also where they are closed
# on the screen; whole episodes, files and settings are not.
CSS = f"""
:root {{ color-scheme: light dark; {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
@media print {{ :root {{ color-scheme: light; {_LIGHT} }} }}
* {{ box-sizing: border-box; }}
html {{ background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%; }}
body {{ max-width: 1000px; margin: 0 auto; padding: 32px 20px 60px; font: 15px/1.5 system-ui, "Helvetica Neue", Helvetica, Arial,
  "Liberation Sans", sans-serif; overflow-wrap: anywhere; }}
h1 {{ font-size: 24px; line-height: 1.25; letter-spacing: -.01em; margin: 0 0 4px; }}
h2 {{ font-size: 17px; margin: 34px 0 10px; padding-top: 10px; border-top: 1px solid var(--rule); break-after: avoid; }}
h3 {{ font-size: 13.5px; margin: 16px 0 4px; break-after: avoid; }}
p {{ margin: 0 0 8px; }}
.by, .soft, .label, .facts, .note {{ color: var(--soft); font-size: 13.5px; }}
.label {{ margin: 8px 0 2px; }}
pre {{ margin: 4px 0 8px; padding: 8px 11px; background: var(--wash); border-radius: 4px; font: 13px/1.45 ui-monospace,
  "SFMono-Regular", Menlo, Consolas, "Liberation Mono", monospace; white-space: pre-wrap; overflow-wrap: anywhere; tab-size: 8; }}
pre.said, pre.thought {{ font: inherit; background: none; padding: 0; }}
pre.thought {{ color: var(--soft); font-style: italic; border-left: 3px solid var(--grid); padding-left: 10px;
  border-radius: 0; }}
pre.answer {{ border-left: 3px solid var(--good); font-size: 14px; }}
pre.script {{ border-left: 3px solid var(--call); }}
pre.added {{ background: var(--added); }} pre.removed {{ background: var(--removed); }}
b.odd {{ color: var(--odd); font-weight: 400; }}
p.cut {{ color: var(--odd); font-size: 13px; margin: 0 0 8px; }}
.word {{ font-weight: 600; }}
.good {{ color: var(--good); }} .bad {{ color: var(--bad); }} .poor, .open {{ color: var(--poor); }}
.none {{ color: var(--soft); }}
details > summary {{ cursor: pointer; }}
details > summary:focus-visible {{ outline: 2px solid var(--call); outline-offset: 2px; }}
details.turn, details.episode {{ border: 1px solid var(--grid); border-radius: 6px; margin: 10px 0; }}
details.turn > summary, details.episode > summary {{ padding: 7px 12px; }}
details.turn[open] > summary {{ border-bottom: 1px solid var(--grid); }}
details.turn > .in, details.episode > .in {{ padding: 10px 14px 6px; scroll-margin-top: 64px; }}
details.turn > summary .soft, details.episode > summary .soft {{ margin-left: 8px; font-variant-numeric: tabular-nums; }}
details.back {{ border-style: dashed; }} .back > .in, .back > summary {{ opacity: .62; }}
.call {{ margin: 10px 0 14px; }}
.call > .head {{ margin: 0 0 2px; }} .call > .head .word {{ color: var(--call); }}
.call > .head code {{ font: 13px ui-monospace, "SFMono-Regular", Menlo, Consolas, "Liberation Mono", monospace; }}
.facts {{ margin: 0 0 4px; font-variant-numeric: tabular-nums; }}
.note {{ margin: 8px 0; }} .note pre {{ font-size: 12.5px; }}
.seen > summary, .more > summary {{ color: var(--soft); font-size: 13.5px; }}
dl {{ margin: 12px 0; font-size: 13.5px; }}
dl div {{ display: grid; grid-template-columns: 150px 1fr; gap: 12px; padding: 3px 0; border-bottom: 1px solid var(--grid);
  break-inside: avoid; }}
dt {{ color: var(--soft); }} dd {{ margin: 0; min-width: 0; white-space: pre-wrap; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-size: 13px; line-height: 1.4; font-variant-numeric: tabular-nums; }}
table.slim {{ width: auto; }}
th {{ text-align: left; font-weight: 600; padding: 4px 8px; vertical-align: bottom; }}
thead th {{ border-bottom: 1.5px solid var(--ink); font-size: 12px; white-space: nowrap; }}
td, tbody th {{ padding: 3px 8px; vertical-align: top; border-bottom: 1px solid var(--grid); font-weight: 400; }}
th:first-child, td:first-child {{ padding-left: 0; }}
.num {{ text-align: right; white-space: nowrap; }}
td .word, th a.short, td .soft.short {{ white-space: nowrap; }}
a {{ color: var(--call); }}
figure {{ margin: 12px 0; break-inside: avoid; }}
figure img {{ display: block; max-width: 100%; max-height: 640px; background: #fff; border: 1px solid var(--grid); }}
figcaption, .file > summary {{ font-size: 13.5px; }} figcaption {{ margin-bottom: 4px; }}
.file {{ margin: 6px 0; font-size: 13.5px; }}
@media (max-width: 560px) {{ dl div {{ grid-template-columns: 1fr; gap: 0; }} body {{ padding: 20px 12px 40px; }} }}
@page {{ margin: 14mm 12mm; }}
@media print {{
  body {{ max-width: none; padding: 0; font-size: 10pt; }} h1 {{ font-size: 16pt; }} h2 {{ font-size: 12.5pt; margin-top: 16pt; }}
  pre {{ font-size: 8.5pt; }} pre.said, pre.thought {{ font-size: 10pt; }} dl, table {{ font-size: 8.5pt; }}
  details:is(.turn, .seen)::details-content {{ content-visibility: visible; display: block; height: auto; }}
  details.turn > summary {{ break-after: avoid; }} figure img {{ max-height: 160mm; }}
  * {{ -webkit-print-color-adjust: exact; print-color-adjust: exact; }}
}}
"""
