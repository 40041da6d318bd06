"""GLIED Studio: Streamlit only, thin."""
