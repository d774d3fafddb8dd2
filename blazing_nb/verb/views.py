"""`dashboard`, `timeline`: views, live in a notebook, as text in a terminal; the dashboard as a page of its own too."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from blazing_nb.verb import Place, Verb

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing
    from blazing_nb.notebook.dashboard import Dashboard
    from blazing_nb.notebook.timeline import Timeline


def dashboard(app: Blazing, args: argparse.Namespace) -> Dashboard:
    from blazing_nb.notebook.dashboard import Dashboard

    return Dashboard(app)


def serve(app: Blazing, args: argparse.Namespace) -> int:
    from blazing_nb.notebook.page import serve

    options = {"ip": args.ip, "port": args.port, "theme": args.theme}
    return serve(app, **options, token=not args.no_token, browser=not args.no_browser)


def timeline(app: Blazing, args: argparse.Namespace) -> Timeline:
    from blazing_nb.notebook.timeline import Timeline

    view = Timeline(app, step=args.step)
    if args.at is not None:
        print(view.at(args.at).to_string(index=False))
    return view


def _serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=0, metavar="N", help="default: a free one")
    parser.add_argument("--ip", default="127.0.0.1", metavar="IP", help="where to listen (default: this machine only)")
    parser.add_argument("--theme", choices=("light", "dark"), default="light", help="(default: light)")
    parser.add_argument("--no-token", action="store_true", help="let in everybody who reaches the port")
    parser.add_argument("--no-browser", action="store_true", help="only say the address")


def _timeline(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--step", metavar="STEP", help="of that step only")
    parser.add_argument("--at", metavar="HH:MM:SS", help="say first what was executing then")


DASHBOARD = Verb(
    "dashboard",
    "all views in one, with controls",
    dashboard,
    place=Place.NOTEBOOK,
    examples=("dashboard",),
)
SERVE = Verb(
    "dashboard",
    "all views in one, as an application in the browser",
    serve,
    _serve,
    Place.TERMINAL,
    examples=("dashboard --app reports --theme dark",),
)
TIMELINE = Verb(
    "timeline",
    "attempts as bars by worker; back in time",
    timeline,
    _timeline,
    examples=("timeline --step charge",),
)
