"""What the test of Streamlit serves."""

import streamlit

streamlit.write("Hello from Streamlit")
upload = streamlit.file_uploader("A file")
