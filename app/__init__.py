"""GLIED Studio, the app. Only this package uses Streamlit."""
