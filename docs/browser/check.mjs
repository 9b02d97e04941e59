// What only a browser can see, in Chromium:   npm ci --prefix docs/browser && node docs/browser/check.mjs [PAGE ...]
// Every page, desktop and phone, light and dark: no error on the console, no request that fails or leaves this machine, no formula left as TeX,
// nothing that scrolls sideways; axe at WCAG AA, for the many pages of one kind (source, exercises) at desktop light and phone dark.  Then what a reader clicks: fold, answer, slider, search, theme, download.
import fs from 'fs'
import http from 'http'
import os from 'os'
import path from 'path'
import puppeteer from 'puppeteer-core'

const here = import.meta.dirname, root = path.resolve(here, '../../build/site/html')
const axe = fs.readFileSync(path.join(here, 'node_modules/axe-core/axe.min.js'), 'utf8')
const KINDS = {'.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript', '.svg': 'image/svg+xml', '.png': 'image/png',
  '.json': 'application/json', '.woff2': 'font/woff2', '.wasm': 'application/wasm', '.ipynb': 'application/json'}
const server = http.createServer((request, response) => {
  const file = path.join(root, decodeURIComponent(new URL(request.url, 'http://x').pathname))
  if (!file.startsWith(root) || !fs.existsSync(file) || fs.statSync(file).isDirectory()) return response.writeHead(404).end()
  response.writeHead(200, {'content-type': KINDS[path.extname(file)] || 'application/octet-stream'}).end(fs.readFileSync(file))
})
await new Promise(done => server.listen(0, '127.0.0.1', done))
const base = `http://127.0.0.1:${server.address().port}/`, profile = fs.mkdtempSync(path.join(os.tmpdir(), 'site-'))
const browser = await puppeteer.launch({executablePath: process.env.CHROMIUM || '/usr/bin/chromium', userDataDir: profile,
  args: ['--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1']})
let bad = 0
const wrong = (where, what) => { bad++; console.log(`${where}: ${what}`) }

async function open(width, mode) {
  const page = await browser.newPage()
  page.wrong = []
  page.on('console', message => message.type() === 'error' && page.wrong.push(message.text()))
  page.on('pageerror', error => page.wrong.push(error.message))
  page.on('response', answer => answer.status() >= 400 && page.wrong.push(`${answer.status()} ${answer.url()}`))
  page.on('request', request => { if (!request.url().startsWith(base) && !/^(data|blob|about):/.test(request.url())) page.wrong.push(`asks for ${request.url()}`) })
  await page.setViewport({width, height: 900, isMobile: width < 600, hasTouch: width < 600})
  await page.emulateMediaFeatures([{name: 'prefers-color-scheme', value: mode}, {name: 'prefers-reduced-motion', value: 'reduce'}])
  return page
}

const all = fs.readdirSync(root, {recursive: true}).filter(name => name.endsWith('.html')).sort()
const tests = all.filter(name => name.startsWith('source/tests/'))
const chosen = process.argv.slice(2)
const ofOneKind = /^source\/|^notebooks\/(exercises|solutions)\//
const visit = async (width, mode) => {
  const page = await open(width, mode)
  // pages that differ in nothing but the code of a test: three of them, once
  const names = chosen.length ? chosen : all.filter(name => !tests.includes(name) || (width === 1280 && tests.indexOf(name) < 3))
  for (const name of names) {
    const where = `${name} at ${width}, ${mode}`
    page.wrong.length = 0
    await page.goto(base + name, {waitUntil: 'load'})
    const examine = !ofOneKind.test(name) || (width > 600) === (mode === 'light')
    const found = await page.evaluate(async (source, examine) => {
      const words = document.createTreeWalker(document.querySelector('article'), NodeFilter.SHOW_TEXT), left = []
      while (words.nextNode()) {
        const text = words.currentNode.data
        if (/\$\$|\\(begin|frac|sqrt|sum|top)\b/.test(text) && !words.currentNode.parentElement.closest('pre, code, annotation, script')) left.push(text.slice(0, 60))
      }
      const wide = document.documentElement.scrollWidth - innerWidth
      const errors = document.querySelectorAll('.katex-error').length
      if (!examine) return {left, wide, errors, axe: []}
      ;(0, eval)(source)
      const report = await axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'], resultTypes: ['violations'],
        rules: {'color-contrast': {enabled: true}}})
      return {left, wide, errors,
        axe: report.violations.map(v => `${v.id} (${v.nodes.length}): ${v.nodes[0].target} ${v.nodes[0].any[0]?.message || ''}`)}
    }, axe, examine)
    for (const what of page.wrong) wrong(where, what)
    for (const text of found.left) wrong(where, `a formula is not typeset: ${text}`)
    if (found.errors) wrong(where, 'KaTeX reports an error')
    if (found.wide > 0) wrong(where, `scrolls sideways by ${found.wide} pixels`)
    for (const violation of found.axe) wrong(where, `axe: ${violation}`)
  }
  await page.close()
}
for (const width of [1280, 390]) await Promise.all([visit(width, 'light'), visit(width, 'dark')])

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
expect(cells.length > 40 && cells.some(cell => cell.outputs?.length), 'the download is the notebook, with its outputs')
expect((await page.$$('.related-pages a')).length === 2, 'there is a lesson before and one after')
await page.evaluate(() => scrollTo(0, 0))
const theme = () => page.$eval('body', body => body.dataset.theme)
const before = await theme()
await page.click('.content-icon-container .theme-toggle')
const after = await theme()
await page.reload({waitUntil: 'load'})
expect(before !== after && await theme() === after, 'the theme changes, and stays after a reload')
await page.close()

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
  await page.close()
}

const sliding = all.filter(name => fs.readFileSync(path.join(root, name), 'utf8').includes('<figure class="slider"'))
for (const name of sliding) for (const width of [1280, 390]) {
  page = await open(width, 'light')
  await page.goto(base + name, {waitUntil: 'load'})
  const state = () => page.$eval('figure.slider', f => f.querySelector('.caption').textContent + f.querySelector('b').textContent)
  await page.$eval('figure.slider', f => f.scrollIntoView({block: 'center', behavior: 'instant'}))
  const first = await state(), box = await (await page.$('figure.slider input')).boundingBox()
  if (width < 600) await page.touchscreen.tap(box.x + box.width * 0.97, box.y + box.height / 2)
  else await page.mouse.click(box.x + box.width * 0.97, box.y + box.height / 2)
  const second = await state()
  await page.focus('figure.slider input')
  await page.keyboard.press('Home')
  expect(first !== second && second !== await state(), `the slider of ${name} moves by ${width < 600 ? 'touch' : 'mouse'} and key`)
  await page.close()
}
await browser.close()
server.close()
fs.rmSync(profile, {recursive: true, force: true})
console.log(`${all.length} pages, ${sliding.length} with a slider, ${bad} bad`)
process.exit(bad || !all.length ? 1 : 0)
