"""Gradio app of the test: a function, a streaming function and a file, behind a login."""

import pathlib
import gradio


def greet(name):
    return f"Hello {name}"


def count(steps):
    for step in range(int(steps)):
        yield f"step {step}"


def copy(path):
    target = pathlib.Path(path).with_name("copy.bin")
    target.write_bytes(pathlib.Path(path).read_bytes())
    return str(target)


with gradio.Blocks() as app:
    for name, function, give, take in [
        ("greet", greet, gradio.Textbox, gradio.Textbox),
        ("count", count, gradio.Number, gradio.Textbox),
        ("copy", copy, gradio.File, gradio.File),
    ]:
        gradio.Button(name).click(function, give(), take(), api_name=name)

app.launch(auth=("operator", "open-sesame"))
