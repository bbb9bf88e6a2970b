"""Streamlit app of the test."""

import streamlit

streamlit.write("Hello from Streamlit")
upload = streamlit.file_uploader("A file")
