// What only a browser can see, in Chromium:   npm ci --prefix docs/browser && node docs/browser/check.mjs [PAGE ...]
// Every page, desktop and phone, light and dark: no error on the console, no request that fails or leaves this machine, no formula left as TeX,
// nothing that scrolls sideways, axe at WCAG AA. Then what a reader clicks: fold, answer, search, theme, download.
// A page is loaded once for each width; in the dark, axe looks once more at what the theme can change: colours. It passes over the many
// parts of a formula, which a screen reader does not see: that each has the colour of the text around it is tested here.
import fs from 'fs'
import http from 'http'
import os from 'os'
import path from 'path'
import puppeteer from 'puppeteer-core'

const began = Date.now()
const here = import.meta.dirname, root = path.resolve(here, '../../build/site/html')
const axe = fs.readFileSync(path.join(here, 'node_modules/axe-core/axe.min.js'), 'utf8')
const KINDS = {'.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript', '.svg': 'image/svg+xml', '.png': 'image/png',
  '.json': 'application/json', '.woff2': 'font/woff2', '.wasm': 'application/wasm', '.ipynb': 'application/json'}
const server = http.createServer((request, response) => {
  const file = path.join(root, decodeURIComponent(new URL(request.url, 'http://x').pathname))
  if (!file.startsWith(root) || !fs.existsSync(file) || fs.statSync(file).isDirectory()) return response.writeHead(404).end()
  response.writeHead(200, {'content-type': KINDS[path.extname(file)] || 'application/octet-stream', 'cache-control': 'max-age=3600'})
  response.end(fs.readFileSync(file))
})
await new Promise(done => server.listen(0, '127.0.0.1', done))
const base = `http://127.0.0.1:${server.address().port}/`, profile = fs.mkdtempSync(path.join(os.tmpdir(), 'site-'))
const browser = await puppeteer.launch({executablePath: process.env.CHROMIUM || '/usr/bin/chromium', userDataDir: profile,
  args: ['--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1']})
let bad = 0
const wrong = (where, what) => { bad++; console.log(`${where}: ${what}`) }

const calm = {name: 'prefers-reduced-motion', value: 'reduce'}
const setTheme = (page, mode) => page.emulateMediaFeatures([{name: 'prefers-color-scheme', value: mode}, calm])
async function open(width, mode) {
  const page = await (await browser.createBrowserContext()).newPage()
  page.wrong = []
  page.on('console', message => message.type() === 'error' && page.wrong.push(message.text()))
  page.on('pageerror', error => page.wrong.push(error.message))
  page.on('response', answer => answer.status() >= 400 && page.wrong.push(`${answer.status()} ${answer.url()}`))
  page.on('request', request => { if (!request.url().startsWith(base) && !/^(data|blob|about):/.test(request.url())) page.wrong.push(`asks for ${request.url()}`) })
  await page.setViewport({width, height: 900, isMobile: width < 600, hasTouch: width < 600})
  await setTheme(page, mode)
  return page
}
const close = page => page.browserContext().close()

const all = fs.readdirSync(root, {recursive: true}).filter(name => name.endsWith('.html')).sort()
const tests = all.filter(name => name.startsWith('source/tests/'))
const chosen = process.argv.slice(2)
// In the page: formulas and width, which no theme changes; then colours and axe, with all rules or with those of colours
const look = width => {
  const content = document.querySelector('.content')  // on a phone it scrolls by itself
  const words = document.createTreeWalker(document.querySelector('article'), NodeFilter.SHOW_TEXT), left = []
  while (words.nextNode()) {
    const text = words.currentNode.data
    if (/\$\$|\\(begin|frac|sqrt|sum|top)\b/.test(text) && !words.currentNode.parentElement.closest('pre, code, annotation, script')) left.push(text.slice(0, 60))
  }
  return {left, wide: Math.max(document.documentElement.scrollWidth - width, content.scrollWidth - content.clientWidth), errors: document.querySelectorAll('.katex-error').length}
}
const examine = async rules => {
  const own = [...document.querySelectorAll('.katex-html')].filter(formula => {
    const around = getComputedStyle(formula.closest('.katex').parentElement).color
    return [formula, ...formula.querySelectorAll('*')].some(part => {
      const {color, backgroundColor, opacity} = getComputedStyle(part)
      return color !== around || backgroundColor !== 'rgba(0, 0, 0, 0)' || opacity !== '1'
    })
  })
  const report = await axe.run({exclude: ['.katex-html']}, {runOnly: rules, resultTypes: ['violations'], preload: false})
  const coloured = own.map(formula => `a formula has a colour of its own: ${formula.textContent.slice(0, 60)}`).slice(0, 1)
  return [...coloured, ...report.violations.map(v => `axe: ${v.id} (${v.nodes.length}): ${v.nodes[0].target} ${v.nodes[0].any[0]?.message || ''}`)]
}
const RULES = {light: {type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']}, dark: {type: 'rule', values: ['color-contrast', 'link-in-text-block']}}
const spent = {}
const timed = async (what, promise) => { const start = Date.now(), value = await promise; spent[what] = (spent[what] || 0) + Date.now() - start; return value }

async function visit(page, width, name) {
  page.wrong.length = 0
  await timed('load', page.goto(base + name, {waitUntil: 'load'}))
  await timed('axe source', page.evaluate(axe))
  for (const mode of ['light', 'dark']) {
    await setTheme(page, mode)
    for (const violation of await timed(`axe ${mode}`, page.evaluate(examine, RULES[mode]))) wrong(`${name} at ${width}, ${mode}`, violation)
  }
  const found = await timed('look', page.evaluate(look, width))
  for (const text of found.left) wrong(`${name} at ${width}`, `a formula is not typeset: ${text}`)
  if (found.errors) wrong(`${name} at ${width}`, 'KaTeX reports an error')
  if (found.wide > 0) wrong(`${name} at ${width}`, `scrolls sideways by ${found.wide} pixels`)
  await setTheme(page, 'light')
  for (const what of page.wrong) wrong(`${name} at ${width}`, what)
}
// pages that differ in nothing but the code of a test: three of them, once
const names = chosen.length ? chosen : all
const jobs = [1280, 390].flatMap(width => names.filter(name => chosen.length || !tests.includes(name) || (width === 1280 && tests.indexOf(name) < 3))
  .map(name => [width, name, fs.statSync(path.join(root, name)).size]))
jobs.sort((a, b) => a[0] - b[0] || b[2] - a[2])  // the longest page first, so that no tab waits at the end
const tab = async () => {
  let page, at
  while (jobs.length) {
    const [width, name] = jobs.shift()
    if (at !== width) { if (page) await close(page); page = await open(at = width, 'light') }
    await visit(page, width, name)
  }
  if (page) await close(page)
}
await Promise.all([tab(), tab()])
console.log(`looked at all pages: ${Math.round((Date.now() - began) / 1000)} s`, JSON.stringify(spent))
// What a reader clicks
const pause = ms => new Promise(done => setTimeout(done, ms))
const expect = (true_, what) => { if (!true_) wrong('clicking', what) }
const lesson = all.find(name => /^notebooks\/06_.*\.html$/.test(name))
let page = await open(1280, 'light')
await page.goto(base + lesson, {waitUntil: 'load'})
for (const [selector, what] of [['details.hide', 'a folded cell'], ['article details:not(.hide)', 'an answer']]) {
  expect(!await page.$eval(selector, d => d.open), `${what} is folded at first`)
  await page.$eval(`${selector} > summary`, s => s.scrollIntoView({block: 'center'}))
  await page.click(`${selector} > summary`)
  expect(await page.$eval(selector, d => d.open), `${what} opens by a click`)
  await page.focus(`${selector} > summary`)
  await page.keyboard.press('Enter')
  expect(!await page.$eval(selector, d => d.open), `${what} closes by a key`)
}
const cells = await page.evaluate(async () => (await (await fetch(document.querySelector('a.download').href)).json()).cells)
const title = await page.$eval('article h1', h1 => h1.firstChild.data)
expect([cells[0].source].flat().join('').includes(title) && cells.some(cell => cell.outputs?.length), 'the download is the notebook, with its outputs')
expect((await page.$$('.related-pages a')).length === 2, 'there is a lesson before and one after')
await page.evaluate(() => scrollTo(0, 0))
const theme = () => page.$eval('body', body => body.dataset.theme)
const before = await theme()
await page.click('.content-icon-container .theme-toggle')
const after = await theme()
await page.reload({waitUntil: 'load'})
expect(before !== after && await theme() === after, 'the theme changes, and stays after a reload')
await close(page)

for (const [width, mode] of [[1280, 'light'], [390, 'dark']]) {
  page = await open(width, mode)
  await page.goto(base + 'index.html', {waitUntil: 'load'})
  if (width < 600) { await page.click('.mobile-header label[for="__navigation"]'); await pause(500) }
  await page.click('pagefind-modal-trigger button')
  await pause(300)
  await page.keyboard.type('rank')
  await page.waitForFunction(() => document.querySelectorAll('pagefind-results a').length > 3, {timeout: 20000})
  await pause(500)
  const links = await page.$$eval('pagefind-results a', found => found.map(a => a.getAttribute('href')))
  const pages = [...new Set(links.map(link => link.replace(/#.*/, '').replace(/^.*\/(?=notebooks\/|source\/|docs\/|reference\/)/, '')))]
  expect(pages.slice(0, 2).map(p => p.slice(10, 12)).sort().join() === '05,07', `"rank" finds lessons 05 and 07 first, at ${width}: it finds ${pages.slice(0, 4)}`)
  for (const what of page.wrong) wrong(`search at ${width}`, what)
  await close(page)
}

await browser.close()
server.close()
fs.rmSync(profile, {recursive: true, force: true})
console.log(`${all.length} pages, ${bad} bad, ${Math.round((Date.now() - began) / 1000)} s`)
process.exit(bad || !all.length ? 1 : 0)
