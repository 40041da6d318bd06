"""Trace -> tables -> figures. No torch, no Streamlit."""
