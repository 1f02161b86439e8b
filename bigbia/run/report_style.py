"""How the run report looks: on a light and on a dark screen, and on paper."""

from __future__ import annotations

VIRIDIS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")

_COLOURS = "".join(f".q{i}{{fill:{c};background:{c}}}" for i, c in enumerate(VIRIDIS))

STYLE = (
    """
:root{color-scheme:light dark;--ink:#1d2733;--soft:#5d6b7a;--line:#dde3e9;--back:#fff;--card:#f6f8fa;--time:#a9c9e8;
--rate:#b9dfc3;--peak:#ead2a8;--good:#1a7f47;--warn:#9a6700;--bad:#c62f2f;--node:#eef4fa;--edge:#8495a6}
@media (prefers-color-scheme:dark){:root{--ink:#e4e9ee;--soft:#9aa8b6;--line:#333d47;--back:#14191f;--card:#1c232b;
--time:#2b5278;--rate:#2a5c3c;--peak:#6a5022;--good:#4cc47f;--warn:#e0b04a;--bad:#ff7b72;--node:#22303d;--edge:#74889b}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:1040px;margin:0 auto;padding:28px 24px 60px}
h1{font-size:28px;line-height:1.2;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:19px;margin:36px 0 8px;padding-top:14px;border-top:1px solid var(--line)}
h3{font-size:15px;margin:18px 0 6px;overflow-wrap:anywhere}
small,.note,.kind,figcaption{color:var(--soft);font-size:13px;font-weight:400}
p{margin:6px 0}
.kind{letter-spacing:.06em;text-transform:uppercase;font-size:12px;margin:0 0 2px}
code,pre{font:12.5px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
pre{background:var(--card);padding:12px;border-radius:8px;white-space:pre-wrap}
.error{color:var(--bad)}
.state{font-size:13px;font-weight:600;vertical-align:middle;padding:3px 10px;border-radius:99px;border:1.5px solid;white-space:nowrap}
.published{color:var(--good)}.warned,.stopped{color:var(--warn)}.state.failed{color:var(--bad)}
.tiles{display:flex;flex-wrap:wrap;gap:10px;margin:16px 0 0}
.tiles div{flex:1 1 130px;background:var(--card);border-radius:10px;padding:10px 14px}
.tiles span,.tiles small{display:block;color:var(--soft);font-size:12.5px}
.tiles b{font-size:21px;font-weight:600;line-height:1.3}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px}
th{font-weight:500;color:var(--soft);font-size:12.5px;text-align:left;white-space:nowrap}
th,td{padding:4px 10px 4px 0;border-bottom:1px solid var(--line);vertical-align:top}
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.stages td{vertical-align:middle}
.stages td:first-child{min-width:190px}
.facts td:first-child,.memory td:first-child{width:1%;white-space:nowrap;color:var(--soft);
max-width:340px;overflow:hidden;text-overflow:ellipsis;padding-right:18px}
.facts th,.memory th{padding:0;border:0}
.memory td:nth-child(2){width:42%}
.bar{position:relative;min-width:104px;height:20px;border-radius:3px;overflow:hidden}
.bar i{position:absolute;inset:2px auto 2px 0;background:var(--time);border-radius:3px}
.bar b{position:relative;font-weight:400;padding-left:6px;line-height:20px;white-space:nowrap;font-variant-numeric:tabular-nums}
.rate i{background:var(--rate)}.peak i{background:var(--peak)}
mark{background:none;color:var(--warn);font-weight:600}
.row{display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start}
figure{margin:0}
.shot{position:relative;max-width:100%}
.shot img{display:block;max-width:100%;border-radius:6px;background:#000}
.crisp{image-rendering:pixelated}
figcaption{margin-top:4px}figcaption small{display:block;font-size:12px}
.scalebar{position:absolute;right:8px;bottom:8px;border-bottom:3px solid #fff;color:#fff;font-size:11px;line-height:15px;
text-align:center;white-space:nowrap;text-shadow:0 0 2px #000,0 0 3px #000,0 0 5px #000;box-shadow:0 1px 2px #0008}
.axis{font-size:11px;fill:var(--soft)}
svg{max-width:100%;height:auto;display:block}
svg text{font-family:inherit}
.left{fill:var(--card);stroke:var(--edge);stroke-width:.8;stroke-dasharray:2 2;background:var(--card)}
.part{stroke:var(--ink);stroke-width:1;stroke-dasharray:2 2}
rect.failed,i.failed{fill:#d62828;background:#d62828}
.missing{fill:#777;background:#777}
.cross{stroke:#fff;stroke-width:1.8;fill:none}
.again{fill:#fff;stroke:#111;stroke-width:1}
.legend{display:flex;flex-wrap:wrap;gap:4px 20px;font-size:12.5px;color:var(--soft);margin:8px 0 2px}
.legend i{display:inline-block;width:13px;height:13px;vertical-align:-2px}
.legend .left{border:1px dashed var(--edge)}
.legend i.again{border-radius:50%;width:9px;height:9px;background:#fff;border:1px solid #111;vertical-align:0}
.scale i{margin:0 -1px 0 0}
.graph{margin:4px auto}
.graph rect{fill:var(--node);stroke:var(--edge);stroke-width:1}
.graph .input rect,.graph .output rect{fill:var(--card);stroke-dasharray:4 3}
.graph text{text-anchor:middle;fill:var(--ink);font-size:12px}
.graph .name{font-weight:600;font-size:13px}
.graph .op{fill:var(--soft);font-size:11.5px}
.edge{fill:none;stroke:var(--edge);stroke-width:1.3}
#tip path{fill:var(--edge)}
details{margin-top:10px}summary{cursor:pointer;color:var(--soft)}
@media print{body{font-size:11.5px}main{max-width:none;padding:0}h2{margin-top:20px}figure,tr,.tiles{break-inside:avoid}
h2,h3{break-after:avoid}.wide{overflow:visible}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""
    + _COLOURS
)
