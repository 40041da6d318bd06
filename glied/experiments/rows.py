"""The captioners that the tables of `ablation`, `bench table1`, `bench table2` and `bench pair` compare, by name."""

ROWS = {
    "base": "Base",
    "base+vd": "Base + visual distilling",
    "base+aa": "Base + attribute distilling, query A (struck out in the slides)",
    "base+ad": "Base + attribute distilling, query x",
    "glied-global": "both, no local distilling",
    "glied-vl": "both, local visual only",
    "glied-al": "both, local attributes only",
    "glied": "GLIED",
    "glied-wide": "GLIED, heads twice as wide",
    "glied-paper": "GLIED, feed-forward networks (the paper's 18.3M)",
}

PAIR = {"base": "Base", "glied": "GLIED"}

SYSTEMS = {
    "lstm": "LSTM (Vinyals et al. 2015)",
    "softatt": "SoftAtt (Xu et al. 2015)",
    "attfcn": "ATT-FCN (You et al. 2016)",
    "scst-fc": "SCST FC (Rennie et al. 2017)",
    "att2in": "SCST Att2in (Rennie et al. 2017)",
    "updown": "Up-Down (Anderson et al. 2018)",
    "ct": "CT (Sharma et al. 2018)",
    "rfnet": "RFNet (Jiang et al. 2018)",
    "gcn-lstm": "GCN-LSTM (Yao et al. 2018)",
    "base": "Base",
    "glied": "GLIED",
}
# Table 2 of the paper, which lacks some of them: parameters in millions, hours of training, images per second on a GTX
# 1080 Ti, CIDEr on MSCOCO.
PAPER = {
    "lstm": (11.5, 16.8, 28.6, 105.7),
    "softatt": (12.1, 20.4, 23.3, 111.5),
    "updown": (50.1, 24.9, 14.8, 113.2),
    "ct": (27.5, 22.7, 12.9, 115.1),
    "base": (12.3, 13.2, 37.9, 113.5),
    "glied": (18.3, 11.9, 34.5, 118.2),
}

ENSEMBLE, MEMBER = "att2in-ensemble", "att2in"
TABLE_1 = {**SYSTEMS, ENSEMBLE: "SCST, an ensemble of Att2in"}
# What Table 1 of the paper (glied/evaluation/report.py) calls them; the others are not in it.
IN_TABLE_1 = {
    "updown": "Up-Down",
    "rfnet": "RFNet*",
    "gcn-lstm": "GCN-LSTM",
    "base": "Base",
    "glied": "GLIED",
    ENSEMBLE: "SCST*",
}
