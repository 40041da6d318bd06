"""What several pages use: pickers, exports, tables, the tour."""
