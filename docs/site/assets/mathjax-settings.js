window.MathJax = {
  tex: { inlineMath: [["$", "$"], ["\\(", "\\)"]], displayMath: [["$$", "$$"], ["\\[", "\\]"]] },
  options: { ignoreHtmlClass: "md-main", processHtmlClass: "arithmatex|jp-Notebook" },
};
