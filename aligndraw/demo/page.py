"""The Gradio page. It keeps nothing of a visitor, and neither it nor the browser asks another machine for anything."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Gradio and huggingface_hub read these when they are imported.
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}

import gradio as gr

from aligndraw.demo.studio import Offer, answer, invitation
from aligndraw.pipelines.pipeline import SEEDS

_HERE = Path(__file__).parent
_FONTS = ("system-ui", "sans-serif")  # those of the visitor's machine


def build(offers: Mapping[str, Offer]) -> gr.Blocks:
    """Returns the page of models, by name; the first is chosen."""
    first = next(iter(offers.values()))

    def draw(name: str, caption: str, other: str, seed: int | None, sharpen: bool) -> str:
        return answer(offers, name, [caption, *([other] if other.strip() else [])], seed, sharpen)

    def choose(name: str) -> tuple[str, Any]:
        offer = offers[name]
        return invitation(offer), gr.Checkbox(visible=offer.sharp is not None, value=offer.sharp is not None)

    with gr.Blocks(title="aligndraw", analytics_enabled=False) as page:
        gr.Markdown("# aligndraw\nType a caption and watch it being drawn. The frame is the window of the step; the "
                    "stronger a word's colour, the more the step attends to it.")  # fmt: skip
        model = gr.Radio(list(offers), value=first.name, label="Model", visible=len(offers) > 1)
        with gr.Row():
            caption = gr.Textbox(label="Caption", elem_id="caption", autofocus=True)
            other = gr.Textbox(
                label="Compare with, from the same noise",
                placeholder="the caption with a word changed; may be empty",
                elem_id="other",
            )
        with gr.Row():
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=SEEDS - 1, elem_id="seed")
            sharpen = gr.Checkbox(first.sharp is not None, label="Sharpen", visible=first.sharp is not None)
        with gr.Row():
            drawn = gr.Button("Draw", variant="primary", elem_id="draw")
            fresh = gr.Button("Draw another seed", elem_id="fresh")
        stage = gr.HTML(
            invitation(first),
            elem_id="stage",
            css_template=(_HERE / "page.css").read_text(),
            js_on_load=(_HERE / "player.js").read_text(),
        )
        # One drawing at a time: each takes all cores, and a pipeline is not made for two threads.
        drawing = {
            "fn": draw,
            "inputs": [model, caption, other, seed, sharpen],
            "outputs": stage,
            "concurrency_limit": 1,
            "concurrency_id": "draw",
            "api_visibility": "private",
        }
        private: dict[str, Any] = {"api_visibility": "private", "queue": False}
        gr.on([drawn.click, caption.submit, other.submit], **drawing)
        fresh.click(lambda: secrets.randbelow(SEEDS), outputs=seed, **private).then(**drawing)
        stage.select(_chosen, outputs=[caption, other], **private).then(**drawing)
        model.change(choose, model, [stage, sharpen], **private)
    return page


def _chosen(event: gr.EventData) -> tuple[str, str]:
    """Returns the caption that a visitor chose, and none to compare with."""
    return str(event.caption), ""


def start(page: gr.Blocks, host: str, port: int | None, browser: bool) -> str:
    """Begins to serve a page; returns its address.

    Args:
        host: name or address on which this machine listens.
        port: None for the first free one from 7860 on.
        browser: whether to open the page in a browser of this machine.

    Raises:
        OSError: the port is taken, or the host is not of this machine.
    """
    # Gradio asks its own server whether it is up, and must not ask a proxy.
    past = [os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")), "localhost", "127.0.0.1", host]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(filter(None, past))
    address: str
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        inbrowser=browser,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        theme=gr.themes.Base(primary_hue="orange", font=_FONTS, font_mono=("monospace",)),
    )
    return address
