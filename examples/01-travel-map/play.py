"""How a model might go about it: the turns that the tests' server plays. Its key for a latitude is wrong at first."""

MAP = r'''import html
import json
import math

walk = json.load(open("documents/walk.json", encoding="utf-8"))
days = walk["days"]


def km(a, b):
    p, q = math.radians(a["latitude"]), math.radians(b["latitude"])
    dl = math.radians(b["lon"] - a["lon"])
    h = math.sin((q - p) / 2) ** 2 + math.cos(p) * math.cos(q) * math.sin(dl / 2) ** 2
    return 2 * 6371 * math.asin(math.sqrt(h))


places = {s["name"]: s for d in days for s in d["stops"]}
lengths = [sum(km(a, b) for a, b in zip(d["stops"], d["stops"][1:])) for d in days]

lats = [p["lat"] for p in places.values()]
lons = [p["lon"] for p in places.values()]
shrink = math.cos(math.radians(sum(lats) / len(lats)))
margin, width = 70, 1000
scale = (width - 2 * margin) / ((max(lons) - min(lons)) * shrink)
height = round((max(lats) - min(lats)) * scale + 2 * margin)


def xy(p):
    return margin + (p["lon"] - min(lons)) * shrink * scale, margin + (max(lats) - p["lat"]) * scale


colours = ["#b5452c", "#2c6e49", "#2b4c7e"]
svg = []
for d, colour in zip(days, colours):
    points = " ".join("%.1f,%.1f" % xy(s) for s in d["stops"])
    svg.append(f'<polyline data-day="{d["day"]}" points="{points}" fill="none" stroke="{colour}" stroke-width="4"/>')
for number, (name, p) in enumerate(places.items()):
    x, y = xy(p)
    label = html.escape(name)
    svg.append(f'<circle data-place="{label}" cx="{x:.1f}" cy="{y:.1f}" r="6" fill="#222"/>')
    svg.append(f'<text x="{x:.1f}" y="{y + (-14 if number % 2 else 26):.1f}" text-anchor="middle">{label}</text>')
svg.append(f'<line x1="{margin}" y1="{height - 20}" x2="{margin + 10 / 6371 * 180 / math.pi * scale:.1f}" '
           f'y2="{height - 20}" stroke="#222" stroke-width="3"/><text x="{margin}" y="{height - 28}">10 km</text>')

items = []
for d, length, colour in zip(days, lengths, colours):
    way = " – ".join(html.escape(s["name"]) for s in d["stops"])
    items.append(f'<li><b style="color:{colour}">Day {d["day"]}, {d["date"]}</b>: {way} ({length:.1f} km)</li>')
title = html.escape(walk["title"])
page = f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font-family: sans-serif; margin: 2em }} svg {{ max-width: 100%; background: #f4efe3 }}
text {{ paint-order: stroke; stroke: #f4efe3; stroke-width: 4px }}</style></head>
<body><h1>{title}</h1>
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="15">
{chr(10).join(svg)}
</svg>
<ul>
{chr(10).join(items)}
</ul>
<p>As the crow flies, {sum(lengths):.1f} km in all.</p>
</body>
</html>
"""
with open("output/map.html", "w", encoding="utf-8") as file:
    file.write(page)
print("%.1f" % sum(lengths))
'''

#: In the background a server for the page, which is then asked for it, as a browser would.
LOOK = r'''cd output
python3 -m http.server --bind 127.0.0.1 8000 > /testbed/server.log 2>&1 &
cd ..
until python3 -c "import socket; socket.create_connection(('127.0.0.1', 8000))" 2> /dev/null; do sleep 0.05; done
python3 - <<'EOF'
import urllib.request
page = urllib.request.urlopen("http://127.0.0.1:8000/map.html").read().decode()
print(len(page), page.count("<circle"), page.count("<polyline"), page[page.index("<ul>"):])
EOF'''

PLAY = [
    [
        "First a look at what I was given.",
        ("str_replace_editor", {"command": "view", "path": "/testbed/documents"}),
        ("execute_bash", {"command": "head -c 700 documents/walk.json; grep -c name documents/walk.json"}),
    ],
    [("str_replace_editor", {"command": "create", "path": "/testbed/map.py", "file_text": MAP})],
    [("execute_bash", {"command": "python3 map.py"})],
    [
        "The file says lat, not latitude.",
        (
            "str_replace_editor",
            {
                "command": "str_replace",
                "path": "/testbed/map.py",
                "old_str": 'a["latitude"]), math.radians(b["latitude"])',
                "new_str": 'a["lat"]), math.radians(b["lat"])',
            },
        ),
        ("execute_bash", {"command": "python3 map.py > answer.txt && cat answer.txt && ls -l output"}),
    ],
    [("execute_bash", {"command": LOOK})],
    [("submit", {})],
]
