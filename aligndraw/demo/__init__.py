"""A page in the browser that draws captions step by step: `aligndraw demo`.

`figure.py` and `studio.py` turn captions into HTML, without state and without Gradio. `page.py` is the Gradio page
around them, `player.js` plays the figures in the browser.
"""
