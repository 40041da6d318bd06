"""Trace -> tables -> figures. Pure: no torch of its own, no Streamlit."""
